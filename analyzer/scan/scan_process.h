// Which live blocks of a running process nothing points to.
#ifndef OLLAMATRACE_ANALYZER_SCAN_SCAN_PROCESS_H_
#define OLLAMATRACE_ANALYZER_SCAN_SCAN_PROCESS_H_

#include <sys/types.h>

#include <string>

#include "absl/status/statusor.h"
#include "analyzer/load/scan_file.h"

namespace ollamatrace {

struct Scan {
  std::string program;
  std::string path;  // of the file that the result was added to
  ScanResult result;
};

// Stops the process for a moment, looks through a copy of it, and adds the result to the file
// beside its trace. The process runs on, whatever happens. Errors are one line: NotFound (no such
// process, it is not traced, or it has ended meanwhile), PermissionDenied (with what to allow),
// Unavailable (try again, or why not), FailedPrecondition.
absl::StatusOr<Scan> ScanProcess(pid_t pid);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SCAN_SCAN_PROCESS_H_
