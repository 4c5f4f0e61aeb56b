// Finds the traces that a user's paths mean, and what lies beside them: marks and the library's
// logs.
#ifndef OLLAMATRACE_ANALYZER_LOAD_SESSION_H_
#define OLLAMATRACE_ANALYZER_LOAD_SESSION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "analyzer/load/marks.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// One process's trace: of its files, the one that the user named or the first there is.
struct TraceFile {
  std::string path;  // a .zst of the process, or the .journal when there is no .zst
  bool named =
      false;  // the user named this very file: that it is unreadable is then an error, not a note
};

struct Session {
  std::vector<TraceFile> traces;   // no file twice; sorted by path within a folder
  std::vector<Mark> marks;         // of all folders, by time
  std::vector<std::string> notes;  // one line each: what the library's logs say, bad marks
  std::vector<absl::Status>
      errors;  // one for each path that led to nothing; the message is one line
};

// A path is a trace, a journal or a folder with traces (or with folders of traces, one level down).
Session FindSession(const std::vector<std::string>& paths);

// What the beginning of a trace says about its process. Cheap: does not read the whole file unless
// only a journal is there.
struct TraceHead {
  bool known = false;
  uint32_t pid = 0;
  uint64_t start_ns = 0;  // CLOCK_MONOTONIC
  uint64_t wall_ns = 0;
  std::string exe;
};
TraceHead PeekTrace(const std::string& path);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_LOAD_SESSION_H_
