// Files that a user writes by hand.
#ifndef OLLAMATRACE_ANALYZER_CLI_READ_SMALL_FILE_H_
#define OLLAMATRACE_ANALYZER_CLI_READ_SMALL_FILE_H_

#include <string>

#include "absl/status/statusor.h"

namespace ollamatrace {

// InvalidArgument names the path: it cannot be read, or is larger than a megabyte.
absl::StatusOr<std::string> ReadSmallFile(const std::string& path);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_READ_SMALL_FILE_H_
