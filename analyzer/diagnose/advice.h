// What is known of a place in llama.cpp, ggml, Ollama, Go or a GPU library that keeps memory, and
// what to do about a verdict where nothing is known.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_ADVICE_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_ADVICE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ollamatrace {

// Who allocated, innermost first.
struct StackNames {
  std::vector<std::string> functions;  // demangled, with parameters or without; "": unknown
  std::vector<std::string> modules;    // paths, of the same frames
};

// What a place is built to do.
enum class SiteKind {
  kCache,       // fills up to a cap, by design
  kPool,        // keeps what it once needed
  kModel,       // goes with the model
  kGoHeap,      // Go's collector decides
  kPerRequest,  // grows with requests, by a known fault
};

struct Site {
  absl::string_view name;  // "llama-server's prompt cache"
  SiteKind kind;
  // The site is meant when for each of these, separated by " < " and innermost first, a function
  // that holds it stands in the stack, in this order. "" and a module: any function.
  absl::string_view functions;
  absl::string_view module;  // part of the module's file name; "": any
  absl::string_view advice;  // the knob that confirms or cures it
  absl::string_view source;  // where that is said
};

// The first entry of the table that the stack matches; nullptr: none.
const Site* FindSite(const StackNames& stack);

// The name of a function near the allocation that is named like a cache, or the like ("LruCache",
// "intern_string"): a hint, no proof. Empty: none is.
std::string NamedLikeACache(const StackNames& stack);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_ADVICE_H_
