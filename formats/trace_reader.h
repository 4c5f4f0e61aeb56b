// Reads one process's trace: the .zst file and, when the process lives or was killed, the journal
// it left behind.
#ifndef OLLAMATRACE_FORMATS_TRACE_READER_H_
#define OLLAMATRACE_FORMATS_TRACE_READER_H_

#include <cstdint>
#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "formats/read_summary.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

struct ReadOptions {
  // Called now and then with (bytes done, bytes in all).
  std::function<void(uint64_t, uint64_t)> progress;
};

// Reads the trace of the process to which `path` belongs, a `.zst` or a `.journal`: of the files
// beside it that have the same name but for their endings, the segments that count, the checkpoint
// before them and the journal (see segment_files.h). Any of them may be missing. Errors: NotFound
// (no such file), PermissionDenied, FailedPrecondition (a newer format version, with both versions
// in the text), InvalidArgument (not a trace; an empty file), Internal (I/O). Damage inside is not
// an error: it is skipped, counted and noted. The message is one line: what, where, what to do.
// Memory is bounded by the largest chunk plus the journal's used parts.
absl::StatusOr<ReadSummary> ReadTrace(const std::string& path, TraceVisitor& visitor,
                                      const ReadOptions& options = {});

// The same for a trace that lies in memory (no journal).
absl::StatusOr<ReadSummary> ReadTraceBytes(absl::string_view bytes, TraceVisitor& visitor);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_TRACE_READER_H_
