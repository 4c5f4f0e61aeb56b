// The report's curves and cycles, made of what was replayed.
#ifndef OLLAMATRACE_ANALYZER_REPORT_BUILD_TIMELINE_H_
#define OLLAMATRACE_ANALYZER_REPORT_BUILD_TIMELINE_H_

#include <vector>

#include "absl/types/span.h"
#include "analyzer/diagnose/cycles.h"
#include "analyzer/diagnose/levels.h"
#include "analyzer/report/report_timeline.h"

namespace ollamatrace {

// What is asked at each moment of `times`, added to `curve`, which may be empty.
void AddCurve(const StepCurve& from, absl::Span<const double> times, ReportCurve& curve);

// `points` moments from `begin` to `end`, and the processes' curves there.
ReportTimeline BuildTimeline(const SessionHistory& session,
                             absl::Span<const ProcessHistory* const> processes, double begin,
                             double end, size_t points);

std::vector<ReportPhase> MakePhases(const SessionCycles& cycles);
std::vector<ReportCycle> MakeCycles(const SessionCycles& cycles);
std::vector<ReportOrphan> MakeOrphans(const SessionCycles& cycles);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_BUILD_TIMELINE_H_
