// Live bytes of processes at any moment: what their series say, as step functions.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_LEVELS_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_LEVELS_H_

#include <optional>
#include <utility>
#include <vector>

#include "absl/types/span.h"
#include "analyzer/diagnose/growth.h"
#include "analyzer/replay/session_history.h"

namespace ollamatrace {

// Seconds are those since the session's start.
class StepCurve {
 public:
  StepCurve() = default;
  // Nothing is known before `begin` and after `end`.
  StepCurve(LiveCurve curve, double begin, double end)
      : curve_(std::move(curve)), begin_(begin), end_(end) {}

  // Nothing outside of [begin, end].
  std::optional<double> At(double seconds) const;
  void SetEnd(double end) { end_ = end; }
  const std::vector<double>& moments() const { return curve_.seconds; }
  double begin() const { return begin_; }
  double end() const { return end_; }

 private:
  LiveCurve curve_;
  double begin_ = 0;
  double end_ = 0;
};

// What the process holds in one domain; in the default mode without what died young.
StepCurve CurveOfDomain(const SessionHistory& session, const ProcessHistory& process, Domain domain,
                        MappingClass mapping);

// Heap and anonymous mappings of several processes together; a process that has ended holds
// nothing.
class HostLevels {
 public:
  // `ends` says until when each of them holds what it holds.
  HostLevels(const SessionHistory& session, absl::Span<const ProcessHistory* const> processes,
             absl::Span<const double> ends);

  double At(double seconds) const;
  // The greatest level in [begin, end], as exactly as the series are.
  double Peak(double begin, double end) const;
  // The levels in [begin, end], both included.
  LiveCurve Between(double begin, double end) const;

 private:
  std::vector<StepCurve> curves_;
  std::vector<double> moments_;  // ascending
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_LEVELS_H_
