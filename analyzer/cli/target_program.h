// The program that `record` is asked to run: where it is, and whether a library can be preloaded
// into it.
#ifndef OLLAMATRACE_ANALYZER_CLI_TARGET_PROGRAM_H_
#define OLLAMATRACE_ANALYZER_CLI_TARGET_PROGRAM_H_

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {

// As execvp finds it in `path` (the value of PATH). NotFound; PermissionDenied when it is there and
// not executable.
absl::StatusOr<std::string> FindProgram(const std::string& name, absl::string_view path);

// FailedPrecondition, with the reason, when the dynamic linker of glibc does not start `program`,
// or ignores LD_PRELOAD for it: linked statically, against musl, of another architecture, setuid. A
// script is judged by its interpreter. Ok in doubt. (ld.so(8), "Secure-execution mode"; elf(5),
// PT_INTERP.)
absl::Status CheckPreloadable(const std::string& program);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_TARGET_PROGRAM_H_
