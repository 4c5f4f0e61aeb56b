// What the phases of a session did to the memory: idle slope, load peak, recovery, what survived an
// unload, runners that were killed at it, and processes that outlived their server.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_CYCLES_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_CYCLES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "absl/types/span.h"
#include "analyzer/diagnose/phases.h"
#include "analyzer/diagnose/statistics.h"
#include "analyzer/replay/session_history.h"

namespace ollamatrace {

// Bytes are those of the heap and of anonymous mappings, of all given processes together; seconds
// those since the session's start. Processes are named by their index in what was given.
struct PhaseLevels {
  Phase phase;
  double begin_bytes = 0;
  double end_bytes = 0;
  double peak_bytes = 0;
  // Of an idle phase of kLeastIdleSeconds at least: bytes by hour.
  std::optional<Slope> idle_per_hour;
};
inline constexpr double kLeastIdleSeconds = 5;

struct Cycle {
  Unload unload;
  double before_bytes = 0;  // when loading began
  double peak_bytes = 0;    // from then until the unload
  double loaded_bytes = 0;  // when the unload began
  double after_bytes = 0;   // when it was over
  // Of what loading added, this came back...
  double survived_bytes = 0;  // after_bytes - before_bytes
  // ... and it took so long from the unload's begin until nine tenths of it had; nothing: it never
  // did.
  std::optional<double> recovery_seconds;
  std::vector<size_t> killed;  // processes that were killed between the load and the next one
  uint64_t killed_bytes = 0;   // what they held
};

struct Orphan {
  size_t process = 0;
  size_t parent = 0;
  double outlived_seconds = 0;  // by so much, as far as is known
};
// A child that ends as its parent does is none.
inline constexpr double kLeastOutlivedSeconds = 1;

struct SessionCycles {
  std::vector<PhaseLevels> phases;
  std::vector<Cycle> cycles;
  std::vector<Orphan> orphans;
};

SessionCycles FindCycles(const SessionHistory& session,
                         absl::Span<const ProcessHistory* const> processes);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_CYCLES_H_
