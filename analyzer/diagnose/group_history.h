// What is known of one group of blocks in one process, in the units that people use.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_GROUP_HISTORY_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_GROUP_HISTORY_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "analyzer/diagnose/growth.h"
#include "analyzer/replay/session_history.h"

namespace ollamatrace {

// Seconds are those since the session's start.
struct GroupHistory {
  LiveCurve over_time;
  LiveCurve over_requests;     // x: requests answered while the process lived. Empty without marks
  std::vector<double> tokens;  // answered by then, at the points of over_requests; empty: not known

  // What was allocated in a part of the time, and what of it is live at the end.
  struct Generation {
    double end = 0;
    uint64_t born_bytes = 0;  // those that died young are missing in the default mode
    uint64_t live_bytes = 0;
  };
  std::vector<Generation> generations;  // by time
  DeathAges::Counts death_ages{};       // of blocks whose free is in the trace

  StackStats stats;  // of the stacks together; `row` means nothing
  double first_seen = 0;
  double last_seen = 0;    // of all allocations
  double oldest_live = 0;  // when the oldest and the newest of the live blocks were allocated
  double newest_live = 0;

  double process_start = 0;  // or the window's, or where history is complete
  double process_end = 0;
  double active_end = 0;  // the last allocation of any group, or the last request
  ProcessEnd end = ProcessEnd::kKilled;
  bool counts_as_memory = true;  // no mapping of a file, no reservation
};

// The stacks are such of `process`: entries of ProcessHistory::stacks.
GroupHistory MakeGroupHistory(const SessionHistory& session, const ProcessHistory& process,
                              absl::Span<const StackStats* const> stacks);

// The same of all that the process holds in these stacks, as curves alone.
LiveCurve CurveOverTime(const SessionHistory& session, const ProcessHistory& process,
                        const GroupSeries::Sums& sums);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_GROUP_HISTORY_H_
