// A file that a verb writes.
#ifndef OLLAMATRACE_ANALYZER_CLI_OUTPUT_FILE_H_
#define OLLAMATRACE_ANALYZER_CLI_OUTPUT_FILE_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "analyzer/report/renderers.h"

namespace ollamatrace {

// Calls `write` with a sink that leads to the file, "-" for standard output. A regular file is
// written under another name beside it and takes its own when it is whole: whoever reads it sees
// the old one or the new one. Returns `write`'s error, or why the file cannot be written; then it
// is as it was.
absl::Status WriteOutputFile(const std::string& path,
                             const std::function<absl::Status(const OutputSink&)>& write);

// The same for what writes to a path of its own.
absl::Status WriteOutputPath(const std::string& path,
                             const std::function<absl::Status(const std::string&)>& write);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_OUTPUT_FILE_H_
