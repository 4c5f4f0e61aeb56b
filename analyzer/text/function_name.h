// Demangled names of functions, taken apart.
#ifndef OLLAMATRACE_ANALYZER_TEXT_FUNCTION_NAME_H_
#define OLLAMATRACE_ANALYZER_TEXT_FUNCTION_NAME_H_

#include <cstddef>
#include <string>

#include "absl/strings/string_view.h"

namespace ollamatrace {

// Without return type and parameters: "std::vector<int>::push_back" of "void
// std::vector<int>::push_back(int const&)". A part of `name`.
absl::string_view QualifiedName(absl::string_view name);

// At most `width` characters (at least 8): first the parameters go, then "(anonymous namespace)::",
// then what stands between angle brackets, then the outer namespaces, then the beginning.
std::string ShortFunction(absl::string_view name, size_t width);

// Whether a frame is plumbing between the program and the allocator (operator new, the C and C++
// library, Go's runtime, allocation wrappers of common libraries): never the place where somebody
// decided to keep memory. `module` is a path.
bool IsPlumbing(absl::string_view function, absl::string_view module);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_TEXT_FUNCTION_NAME_H_
