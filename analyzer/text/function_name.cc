#include "analyzer/text/function_name.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"

namespace ollamatrace {
namespace {

using absl::string_view;

constexpr string_view kAnonymous = "(anonymous namespace)";

// Steps over what belongs together at `i`: an operator's own brackets, "(anonymous namespace)".
// Returns the number of characters, 0 when there is no such thing.
size_t Atom(string_view name, size_t i) {
  const string_view rest = name.substr(i);
  if (absl::StartsWith(rest, kAnonymous)) return kAnonymous.size();
  if (!absl::StartsWith(rest, "operator")) return 0;
  if (i > 0 && (absl::ascii_isalnum(static_cast<unsigned char>(name[i - 1])) || name[i - 1] == '_'))
    return 0;
  for (const string_view symbol :
       {"operator()", "operator<=>", "operator<<=", "operator>>=", "operator<<", "operator>>",
        "operator->*", "operator->", "operator<=", "operator>=", "operator<", "operator>",
        "operator new[]", "operator new", "operator delete[]", "operator delete"}) {
    if (absl::StartsWith(rest, symbol)) return symbol.size();
  }
  return 0;
}

string_view BaseName(string_view path) {
  const size_t slash = path.rfind('/');
  return slash == string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

string_view QualifiedName(string_view name) {
  size_t begin = 0;
  int depth = 0;
  for (size_t i = 0; i < name.size();) {
    if (const size_t atom = Atom(name, i); atom > 0) {
      i += atom;
      continue;
    }
    const char c = name[i];
    if (c == '<' || c == '[' || c == '{') ++depth;
    if (c == '>' || c == ']' || c == '}') --depth;
    if (depth <= 0 && c == ' ') begin = i + 1;
    // Go writes methods as "pkg.(*Type).Method": no parameters follow.
    if (depth <= 0 && c == '(' && i > begin && name[i - 1] != '.') {
      return name.substr(begin, i - begin);
    }
    ++i;
  }
  // A trailing " const" or an odd name: better too much than nothing.
  return begin < name.size() ? name.substr(begin) : name;
}

std::string ShortFunction(string_view name, size_t width) {
  width = std::max<size_t>(width, 8);
  if (name.size() <= width) return std::string(name);
  const string_view qualified = QualifiedName(name);
  if (qualified.size() <= width) return std::string(qualified);
  const std::string named = absl::StrReplaceAll(qualified, {{"(anonymous namespace)::", ""}});
  if (named.size() <= width) return named;
  std::string text;
  int depth = 0;
  for (size_t i = 0; i < named.size();) {
    size_t step = Atom(named, i);
    if (step == 0) {
      step = 1;
      if (named[i] == '<' && depth++ == 0) text += "<...";
      if (named[i] == '>' && depth > 0) --depth;
    }
    if (depth == 0) absl::StrAppend(&text, string_view(named).substr(i, step));
    i += step;
  }
  if (text.size() <= width) return text;
  const string_view tail = string_view(text).substr(text.size() - (width - 3));
  const size_t scope = tail.find("::");
  return absl::StrCat("...", scope == string_view::npos ? tail : tail.substr(scope));
}

bool IsPlumbing(string_view function, string_view module) {
  const string_view base = BaseName(module);
  for (const string_view library :
       {"libc.so", "libc-2.", "libstdc++.so", "libc++.so", "libc++abi.so", "libgcc_s", "ld-linux",
        "ld-2.", "libpthread", "libdl.so", "libollamatrace", "[vdso]", "libjemalloc", "libtcmalloc",
        "libmimalloc", "libcuda.so", "libcudart", "libcupti", "[GPU"}) {
    if (absl::StartsWith(base, library)) return true;
  }
  if (function.empty()) return false;
  const string_view name = QualifiedName(function);
  for (const string_view prefix : {"operator new",
                                   "std::",
                                   "_ZSt",
                                   "_ZNSt",
                                   "_ZNKSt",
                                   "_ZN9__gnu_cxx",
                                   "__gnu_cxx::",
                                   "__cxa_",
                                   "runtime.",
                                   "_cgo_",
                                   "x_cgo_",
                                   "crosscall",
                                   "PyMem_",
                                   "_PyMem_",
                                   "PyObject_Malloc",
                                   "PyObject_Calloc",
                                   "PyObject_Realloc",
                                   "_PyObject_Arena",
                                   "_PyObject_GC_New",
                                   "pymalloc_",
                                   "new_arena",
                                   "allocate_from_new_pool",
                                   "arena_map_",
                                   "gc_alloc",
                                   "_PyObject_Malloc",
                                   "_PyObject_Calloc",
                                   "_PyObject_Realloc",
                                   "cudaMalloc",
                                   "cudaHostAlloc",
                                   "cudart::",
                                   "__cudart",
                                   "CRYPTO_malloc",
                                   "CRYPTO_zalloc",
                                   "CRYPTO_realloc"}) {
    if (absl::StartsWith(name, prefix)) return true;
  }
  for (const string_view exact : {"malloc",
                                  "calloc",
                                  "realloc",
                                  "reallocarray",
                                  "posix_memalign",
                                  "aligned_alloc",
                                  "memalign",
                                  "valloc",
                                  "strdup",
                                  "strndup",
                                  "mmap",
                                  "mmap64",
                                  "mremap",
                                  "sbrk",
                                  "brk",
                                  "xmalloc",
                                  "xcalloc",
                                  "xzalloc",
                                  "xrealloc",
                                  "xstrdup",
                                  "g_malloc",
                                  "g_malloc0",
                                  "g_realloc",
                                  "g_strdup",
                                  "g_slice_alloc",
                                  "sqlite3_malloc",
                                  "sqlite3_malloc64",
                                  "zmalloc",
                                  "zcalloc",
                                  "zrealloc",
                                  "_start",
                                  "ggml_aligned_malloc"}) {
    if (name == exact) return true;
  }
  return false;
}

}  // namespace ollamatrace
