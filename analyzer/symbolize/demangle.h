// Readable names from mangled ones.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_DEMANGLE_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_DEMANGLE_H_

#include <string>
#include <string_view>

namespace ollamatrace {

// C++ (Itanium ABI) and Rust's legacy scheme, whose hash is dropped:
// "_ZN4core3fmt5write17h0123456789abcdefE" is core::fmt::write. Everything else (C, Go, Rust's v0
// scheme, names whose readable form is or could be too long to be worth it) is returned as it came.
std::string Demangle(std::string_view name);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_DEMANGLE_H_
