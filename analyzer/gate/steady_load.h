// Which part of a session its budgets are about.
#ifndef OLLAMATRACE_ANALYZER_GATE_STEADY_LOAD_H_
#define OLLAMATRACE_ANALYZER_GATE_STEADY_LOAD_H_

#include <string>

#include "analyzer/report/report.h"

namespace ollamatrace {

// Seconds since the session's start.
struct SteadyLoad {
  double begin = 0;
  double end = 0;
  double settled = 0;  // the end of the idle phase that follows; `end` without one
  bool warm = false;   // a warm-up phase came before: nothing of it is left to cut off
  std::string name;    // "phase steady", "the whole session"
};

// The phase with the most requests that is no warm-up; the whole session when it has no phases with
// requests. Of either, what comes after history that a trace has dropped (OLLAMATRACE_MAX_BYTES).
SteadyLoad FindSteadyLoad(const Report& report);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_GATE_STEADY_LOAD_H_
