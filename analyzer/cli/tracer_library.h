// libollamatrace.so, as `record` and `soak` preload it.
#ifndef OLLAMATRACE_ANALYZER_CLI_TRACER_LIBRARY_H_
#define OLLAMATRACE_ANALYZER_CLI_TRACER_LIBRARY_H_

#include <string>

#include "absl/status/statusor.h"

namespace ollamatrace {

// OLLAMATRACE_LIB, else ../lib/libollamatrace.so or libollamatrace.so beside this program; without
// symbolic links. NotFound; FailedPrecondition for a path that cannot stand in LD_PRELOAD.
absl::StatusOr<std::string> FindTracerLibrary();

// For LD_PRELOAD: `library` before what is preloaded already.
std::string PreloadWith(const std::string& library);

// In this process's folder, unless it is absolute.
std::string AbsolutePath(const std::string& path);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_TRACER_LIBRARY_H_
