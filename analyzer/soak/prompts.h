// What the requests ask.
#ifndef OLLAMATRACE_ANALYZER_SOAK_PROMPTS_H_
#define OLLAMATRACE_ANALYZER_SOAK_PROMPTS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {

enum class PromptKind {
  kDistinct,  // no two alike: each fills caches anew
  kRepeated,  // one and the same
  kMixed,     // distinct ones of very different lengths, and one that returns in every fourth
  kFile,      // the lines of a file, in turn
};

// "distinct", "repeated", "mixed". InvalidArgument otherwise.
absl::Status ParsePromptKind(absl::string_view text, PromptKind& kind);

struct Prompts {
  PromptKind kind = PromptKind::kDistinct;
  uint64_t words = 16;             // of a generated one; of mixed ones in the middle
  std::vector<std::string> lines;  // of kFile; not empty then

  // The same number gives the same prompt. Thread-safe.
  std::string At(uint64_t number) const;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_PROMPTS_H_
