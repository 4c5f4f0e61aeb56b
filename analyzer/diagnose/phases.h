// The session in phases: warm-up, load, idle, unload, reload, as the marks say; and what unloading
// gave back.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_PHASES_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_PHASES_H_

#include <string>
#include <vector>

#include "analyzer/replay/session_history.h"

namespace ollamatrace {

enum class PhaseKind { kWarmUp, kLoad, kIdle, kUnload, kReload, kEnd, kOther };

// Seconds since the session's start.
struct Phase {
  std::string name;  // the mark's
  PhaseKind kind = PhaseKind::kOther;
  double begin = 0;
  double end = 0;
  uint64_t requests = 0;  // answered in it
};

// One after the other, of all phase marks; empty without any.
std::vector<Phase> PhasesOf(const SessionHistory& session);

// Something was loaded and unloaded again.
struct Unload {
  double loaded = 0;        // when loading began: the first phase since the unload before
  double unload = 0;        // when unloading began
  double settled = 0;       // when it was over: the phase's end
  bool load_alone = false;  // loading was a phase of its own, without a request
  double load_end = 0;      // of that phase
};
std::vector<Unload> UnloadsOf(const std::vector<Phase>& phases);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_PHASES_H_
