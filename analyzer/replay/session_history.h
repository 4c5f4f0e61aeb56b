// What replay leaves of a whole session: the processes of one server, and what happened around
// them.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_SESSION_HISTORY_H_
#define OLLAMATRACE_ANALYZER_REPLAY_SESSION_HISTORY_H_

#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/load/marks.h"
#include "analyzer/replay/process_history.h"

namespace ollamatrace {

// Times are CLOCK_MONOTONIC nanoseconds.
struct SessionHistory {
  std::vector<ProcessHistory> processes;
  uint64_t start_ns = 0;  // when the first trace began
  uint64_t wall_ns = 0;   // CLOCK_REALTIME at start_ns; 0 when unknown
  // The window that replay was asked for.
  uint64_t since_ns = 0;
  uint64_t until_ns = kNever;
  std::vector<Mark> marks;  // by time
  uint64_t requests = 0;    // marked, within the window
  uint64_t unreadable_traces = 0;
  std::vector<std::string>
      notes;  // one line each: logs of the library, bad marks, unreadable traces
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_SESSION_HISTORY_H_
