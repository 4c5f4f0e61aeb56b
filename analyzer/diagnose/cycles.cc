#include "analyzer/diagnose/cycles.h"

#include <algorithm>

#include "analyzer/diagnose/levels.h"

namespace ollamatrace {
namespace {

constexpr double kRecovered = 0.9;
constexpr size_t kMostForSlope = 96;

std::optional<Slope> IdleSlope(const LiveCurve& levels) {
  std::vector<double> x, y;
  const size_t step = (levels.size() + kMostForSlope - 1) / kMostForSlope;
  for (size_t i = 0; i < levels.size(); i += step) {
    x.push_back(levels.seconds[i]);
    y.push_back(levels.bytes[i]);
  }
  if (x.size() < 3 || x.back() - x.front() < kLeastIdleSeconds) return std::nullopt;
  Slope slope = TheilSen(x, y);
  slope.slope *= 3600;
  slope.low *= 3600;
  slope.high *= 3600;
  return slope;
}

class Finder {
 public:
  Finder(const SessionHistory& session, absl::Span<const ProcessHistory* const> processes)
      : session_(session),
        processes_(processes),
        phases_(PhasesOf(session)),
        unloads_(UnloadsOf(phases_)),
        levels_(session, processes, Ends()) {
    for (const ProcessHistory* process : processes) {
      if (process->segment != 0) {
        known_from_ = std::max(known_from_, Seconds(process->complete_from_ns()));
      }
    }
  }

  SessionCycles Find() {
    for (const Phase& phase : phases_) {
      if (phase.begin < known_from_) continue;
      PhaseLevels figures;
      figures.phase = phase;
      figures.begin_bytes = levels_.At(phase.begin);
      figures.end_bytes = levels_.At(phase.end);
      figures.peak_bytes = levels_.Peak(phase.begin, phase.end);
      if (phase.kind == PhaseKind::kIdle) {
        figures.idle_per_hour = IdleSlope(levels_.Between(phase.begin, phase.end));
      }
      found_.phases.push_back(std::move(figures));
    }
    for (size_t i = 0; i < unloads_.size(); ++i) {
      if (unloads_[i].loaded < known_from_) continue;
      const double next = i + 1 < unloads_.size() ? unloads_[i + 1].loaded : 1e300;
      AddCycle(unloads_[i], next);
    }
    FindOrphans();
    return std::move(found_);
  }

 private:
  double Seconds(uint64_t time_ns) const {
    return (static_cast<double>(time_ns) - static_cast<double>(session_.start_ns)) / 1e9;
  }

  // Of a killed process the last that is known is the last that it did, or the library's last
  // sample: a runner that was idle when it was unloaded counts until then.
  std::vector<double> Ends() const {
    std::vector<double> ends;
    for (const ProcessHistory* process : processes_) {
      double end = Seconds(std::min(process->end_ns, session_.until_ns));
      for (const Unload& unload : unloads_) {
        if (process->end != ProcessEnd::kKilled) continue;
        if (end >= unload.loaded && end < unload.unload) end = unload.unload;
      }
      ends.push_back(end);
    }
    return ends;
  }

  void AddCycle(const Unload& unload, double next) {
    Cycle cycle;
    cycle.unload = unload;
    cycle.before_bytes = levels_.At(unload.loaded);
    cycle.peak_bytes = levels_.Peak(unload.loaded, unload.unload);
    cycle.loaded_bytes = levels_.At(unload.unload);
    cycle.after_bytes = levels_.At(unload.settled);
    cycle.survived_bytes = cycle.after_bytes - cycle.before_bytes;
    const double wanted =
        cycle.loaded_bytes - kRecovered * (cycle.loaded_bytes - cycle.before_bytes);
    const LiveCurve after = levels_.Between(unload.unload, unload.settled);
    for (size_t i = 0; i < after.size() && !cycle.recovery_seconds; ++i) {
      if (after.bytes[i] <= wanted) cycle.recovery_seconds = after.seconds[i] - unload.unload;
    }
    for (size_t i = 0; i < processes_.size(); ++i) {
      const ProcessHistory& process = *processes_[i];
      const double end = Seconds(process.end_ns);
      if (process.end != ProcessEnd::kKilled || end < unload.loaded || end >= next) continue;
      if (Seconds(process.start_ns) > unload.settled) continue;
      cycle.killed.push_back(i);
      cycle.killed_bytes +=
          process.Total(Domain::kHeap).live_bytes + process.Total(Domain::kMapping).live_bytes;
    }
    found_.cycles.push_back(std::move(cycle));
  }

  // Parents that went on in another program have not ended; MarkExecs says so.
  void FindOrphans() {
    for (size_t i = 0; i < processes_.size(); ++i) {
      const ProcessHistory& child = *processes_[i];
      if (child.end == ProcessEnd::kExec) continue;
      std::optional<size_t> parent;
      for (size_t j = 0; j < processes_.size(); ++j) {
        const ProcessHistory& candidate = *processes_[j];
        if (j != i && candidate.pid == child.ppid && candidate.pid != child.pid &&
            candidate.start_ns <= child.start_ns) {
          if (!parent || processes_[*parent]->start_ns < candidate.start_ns) parent = j;
        }
      }
      if (!parent) continue;
      const ProcessHistory& server = *processes_[*parent];
      if (server.end != ProcessEnd::kExited && server.end != ProcessEnd::kKilled) continue;
      const double outlived = Seconds(child.end_ns) - Seconds(server.end_ns);
      if (outlived < kLeastOutlivedSeconds) continue;
      found_.orphans.push_back({i, *parent, outlived});
    }
  }

  const SessionHistory& session_;
  absl::Span<const ProcessHistory* const> processes_;
  std::vector<Phase> phases_;
  std::vector<Unload> unloads_;
  HostLevels levels_;
  double known_from_ = -1e300;  // before, a trace has dropped what came and went
  SessionCycles found_;
};

}  // namespace

SessionCycles FindCycles(const SessionHistory& session,
                         absl::Span<const ProcessHistory* const> processes) {
  return Finder(session, processes).Find();
}

}  // namespace ollamatrace
