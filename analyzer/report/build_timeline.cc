#include "analyzer/report/build_timeline.h"

#include <algorithm>

#include "analyzer/report/mapping_name.h"

namespace ollamatrace {
namespace {

const char* KindName(PhaseKind kind) {
  switch (kind) {
    case PhaseKind::kWarmUp:
      return "warm-up";
    case PhaseKind::kLoad:
      return "load";
    case PhaseKind::kIdle:
      return "idle";
    case PhaseKind::kUnload:
      return "unload";
    case PhaseKind::kReload:
      return "reload";
    case PhaseKind::kEnd:
      return "end";
    case PhaseKind::kOther:
      break;
  }
  return "other";
}

double SecondsOf(const SessionHistory& session, uint64_t time_ns) {
  return (static_cast<double>(time_ns) - static_cast<double>(session.start_ns)) / 1e9;
}

// The kernel's figure at the last sample before each moment.
ReportCurve GaugeCurve(const SessionHistory& session, const ProcessHistory& process,
                       uint64_t SampleRecord::*gauge_of, const StepCurve& life,
                       absl::Span<const double> times) {
  ReportCurve curve(times.size());
  bool any = false;
  size_t next = 0;
  std::optional<double> last;
  for (size_t i = 0; i < times.size(); ++i) {
    while (next < process.timeline.size() &&
           SecondsOf(session, process.timeline[next].sample.time_ns) <= times[i]) {
      const uint64_t gauge = process.timeline[next].sample.*gauge_of;
      if (gauge != kUnknownGauge) last = static_cast<double>(gauge);
      ++next;
    }
    if (life.At(times[i])) curve[i] = last;
    any = any || curve[i].has_value();
  }
  if (!any) curve.clear();
  return curve;
}

}  // namespace

void AddCurve(const StepCurve& from, absl::Span<const double> times, ReportCurve& curve) {
  curve.resize(times.size());
  for (size_t i = 0; i < times.size(); ++i) {
    const std::optional<double> level = from.At(times[i]);
    if (level) curve[i] = curve[i].value_or(0) + *level;
  }
}

ReportTimeline BuildTimeline(const SessionHistory& session,
                             absl::Span<const ProcessHistory* const> processes, double begin,
                             double end, size_t points) {
  ReportTimeline timeline;
  for (size_t i = 0; i < points; ++i) {
    timeline.times.push_back(begin + (end - begin) * static_cast<double>(i + 1) /
                                         static_cast<double>(points));
  }
  uint64_t answered = 0;
  auto mark = session.marks.begin();
  for (const double time : timeline.times) {
    for (; mark != session.marks.end() && SecondsOf(session, mark->time_ns) <= time; ++mark) {
      answered += mark->name == kRequestMark;
    }
    timeline.requests.push_back(answered);
  }
  for (size_t i = 0; i < processes.size(); ++i) {
    const ProcessHistory& process = *processes[i];
    ReportProcessCurves curves;
    curves.process = i;
    for (const auto& [key, total] : process.totals) {
      if (key.second == MappingClass::kReserved || key.first == Domain::kBreak) continue;
      ReportProcessCurves::DomainCurve curve;
      curve.domain = DomainName(key.first);
      curve.mapping = MappingName(key.first, key.second);
      const StepCurve steps = CurveOfDomain(session, process, key.first, key.second);
      AddCurve(steps, timeline.times, curve.bytes);
      if (curves.rss_anon.empty()) {
        curves.rss_anon =
            GaugeCurve(session, process, &SampleRecord::rss_anon, steps, timeline.times);
        curves.open_files =
            GaugeCurve(session, process, &SampleRecord::open_files, steps, timeline.times);
      }
      curves.domains.push_back(std::move(curve));
    }
    timeline.processes.push_back(std::move(curves));
  }
  return timeline;
}

std::vector<ReportPhase> MakePhases(const SessionCycles& cycles) {
  std::vector<ReportPhase> phases;
  for (const PhaseLevels& one : cycles.phases) {
    ReportPhase phase;
    phase.name = one.phase.name;
    phase.kind = KindName(one.phase.kind);
    phase.begin = one.phase.begin;
    phase.end = one.phase.end;
    phase.requests = one.phase.requests;
    phase.begin_bytes = one.begin_bytes;
    phase.end_bytes = one.end_bytes;
    phase.peak_bytes = one.peak_bytes;
    if (one.idle_per_hour) {
      phase.idle_per_hour = one.idle_per_hour->slope;
      phase.idle_low = one.idle_per_hour->low;
      phase.idle_high = one.idle_per_hour->high;
    }
    phases.push_back(std::move(phase));
  }
  return phases;
}

std::vector<ReportCycle> MakeCycles(const SessionCycles& cycles) {
  std::vector<ReportCycle> made;
  for (const Cycle& one : cycles.cycles) {
    made.push_back({one.unload.loaded, one.unload.unload, one.unload.settled, one.before_bytes,
                    one.peak_bytes, one.loaded_bytes, one.after_bytes, one.survived_bytes,
                    one.recovery_seconds, one.killed, one.killed_bytes});
  }
  return made;
}

std::vector<ReportOrphan> MakeOrphans(const SessionCycles& cycles) {
  std::vector<ReportOrphan> made;
  for (const Orphan& one : cycles.orphans) {
    made.push_back({one.process, one.parent, one.outlived_seconds});
  }
  return made;
}

}  // namespace ollamatrace
