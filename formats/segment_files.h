// The files that the trace of one process is made of (FORMAT.md, "Segments"), by their names.
#ifndef OLLAMATRACE_FORMATS_SEGMENT_FILES_H_
#define OLLAMATRACE_FORMATS_SEGMENT_FILES_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/string_view.h"

namespace ollamatrace {

enum class TraceFileKind {
  kOther,       // none of the others: a file that stands on its own
  kSegment,     // <exe>.<pid>.<start>.zst, and <exe>.<pid>.<start>.s<N>.zst for N from 1 on
  kCheckpoint,  // <exe>.<pid>.<start>.live<N>.zst, to be read before segment N
  kJournal,     // <exe>.<pid>.<start>.journal
};

struct TraceFileName {
  TraceFileKind kind = TraceFileKind::kOther;
  std::string base;  // the path without all that tells files of one process apart
  uint32_t number = 0;
};

TraceFileName ParseTraceFileName(absl::string_view path);

struct SegmentFiles {
  std::map<uint32_t, std::string> segments;     // paths by number
  std::map<uint32_t, std::string> checkpoints;  // ...
};

// The files of the process that are in the folder of `base`. None: the folder cannot be read.
SegmentFiles FindSegmentFiles(const std::string& base);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_SEGMENT_FILES_H_
