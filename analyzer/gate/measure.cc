#include "analyzer/gate/measure.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "analyzer/diagnose/growth.h"
#include "analyzer/gate/steady_load.h"
#include "analyzer/text/function_name.h"
#include "analyzer/text/units.h"
#include "formats/trace_format.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kLeastRequests = 20;
constexpr size_t kLeastPoints = 8;
constexpr double kLeastSecondsForHours = 58;  // a phase of a minute, as it comes out
constexpr double kLeastIdleForHours = 10;
constexpr uint64_t kLeastHeap = 16 << 20;
constexpr size_t kMostParts = 10;
constexpr double kLeastPart = 0.05;           // of the sum of all parts
constexpr double kLeastExplained = 64 << 10;  // bytes of a cache that are worth a sentence
constexpr size_t kMostExplained = 3;

enum class Kind { kHost, kGpu, kNeither };

Kind KindOf(const std::string& domain, const std::string& mapping) {
  for (int value = 0; value < 256; ++value) {
    const Domain one = static_cast<Domain>(value);
    if (IsGpu(one) && domain != "unknown" && domain == DomainName(one)) {
      return IsOwnMemory(one) ? Kind::kGpu : Kind::kNeither;
    }
  }
  // The heap lies in what the break gives. Files and reservations are no memory that is kept.
  const bool memory = mapping.empty() || mapping == "anonymous";
  return domain != "break" && memory ? Kind::kHost : Kind::kNeither;
}

// Memory that stops growing by itself.
bool IsBounded(const ReportGroup& group) {
  return group.verdict == "cache" || group.verdict == "high-water" || group.verdict == "one-time";
}

const char* GradeOf(double share) {
  if (share < 0.2) return "excellent";
  if (share < 0.4) return "good";
  return share < 0.6 ? "fair" : "poor";
}

double At(const ReportCurve& curve, size_t point) {
  return point < curve.size() ? curve[point].value_or(0) : 0;
}

std::string Bytes(double bytes) { return FormatBytes(std::round(bytes)); }

class Measurer {
 public:
  Measurer(const Report& report, const std::vector<bool>& suppressed)
      : report_(report), suppressed_(suppressed), load_(FindSteadyLoad(report)) {
    if (report_.timeline) times_ = report_.timeline->times;
  }

  Measurements Run() {
    MeasureLeaks();
    MeasureGrowthPerRequest();
    MeasureMemoryPerRequest();
    MeasureGrowthPerHour(Kind::kHost, result_[BudgetKind::kGrowthPerHour]);
    MeasureGrowthPerHour(Kind::kGpu, result_[BudgetKind::kGpuGrowthPerHour]);
    MeasureGpuResidual();
    MeasureIdle();
    MeasureRetainedAfterLoad();
    MeasureUnloads();
    MeasureOpenFiles();
    MeasurePeak();
    MeasureRssGrowth();
    MeasureFragmentation();
    return std::move(result_);
  }

 private:
  struct Range {
    size_t begin = 0;
    size_t end = 0;  // one behind the last
    size_t size() const { return end - begin; }
  };

  // Points of the timeline in [from, to].
  Range Points(double from, double to) const {
    const auto begin = std::lower_bound(times_.begin(), times_.end(), from - 1e-9);
    const auto end = std::upper_bound(begin, times_.end(), to + 1e-9);
    return {static_cast<size_t>(begin - times_.begin()), static_cast<size_t>(end - times_.begin())};
  }

  bool Counts(size_t group, Kind kind) const {
    const ReportGroup& one = report_.groups[group];
    return KindOf(one.domain, one.mapping) == kind && !suppressed_[group] && !IsBounded(one);
  }

  // Live bytes of the groups that count, over `range`. `x` is to be filled in.
  LiveCurve CountedCurve(Range range, Kind kind) const {
    LiveCurve curve;
    curve.bytes.assign(range.size(), 0);
    for (size_t i = range.begin; i < range.end; ++i) curve.seconds.push_back(times_[i]);
    for (size_t group = 0; group < report_.groups.size(); ++group) {
      if (!Counts(group, kind)) continue;
      for (size_t i = range.begin; i < range.end; ++i) {
        curve.bytes[i - range.begin] += At(report_.groups[group].curve, i);
      }
    }
    return curve;
  }

  // What each group that counts grew by between two points, in units of `unit` bytes.
  std::vector<MeasuredPart> Parts(size_t from, size_t to, Kind kind, double unit) const {
    std::vector<MeasuredPart> parts;
    double sum = 0;
    for (size_t group = 0; group < report_.groups.size(); ++group) {
      if (!Counts(group, kind)) continue;
      const ReportCurve& curve = report_.groups[group].curve;
      const double grown = At(curve, to) - At(curve, from);
      if (grown <= 0) continue;
      sum += grown;
      parts.push_back({group, grown / unit});
    }
    std::stable_sort(parts.begin(), parts.end(), [](const MeasuredPart& a, const MeasuredPart& b) {
      return a.amount > b.amount;
    });
    std::erase_if(parts,
                  [&](const MeasuredPart& part) { return part.amount * unit < kLeastPart * sum; });
    if (parts.size() > kMostParts) parts.resize(kMostParts);
    return parts;
  }

  // What grew and does not count.
  void ExplainWhatDoesNotCount(size_t from, size_t to, Kind kind, Measurement& measured) const {
    std::vector<std::pair<double, size_t>> grown;
    for (size_t group = 0; group < report_.groups.size(); ++group) {
      const ReportGroup& one = report_.groups[group];
      if (KindOf(one.domain, one.mapping) != kind || Counts(group, kind)) continue;
      const double more = At(one.curve, to) - At(one.curve, from);
      if (more >= kLeastExplained) grown.emplace_back(-more, group);
    }
    std::sort(grown.begin(), grown.end());
    for (size_t i = 0; i < std::min(grown.size(), kMostExplained); ++i) {
      const size_t group = grown[i].second;
      const ReportGroup& one = report_.groups[group];
      measured.explanation.push_back(absl::StrCat(
          "not counted: ", Bytes(-grown[i].first), " more in ", PlaceOf(report_, one), ", ",
          suppressed_[group] ? "suppressed" : one.verdict, one.site.empty() ? "" : ": ", one.site));
    }
    if (grown.size() > kMostExplained) {
      measured.explanation.push_back(
          absl::StrCat("not counted: ", grown.size() - kMostExplained, " more stacks like these"));
    }
  }

  // The slope of `curve`, whose x are set; `per` names the unit of x.
  void MeasureSlope(const LiveCurve& curve, Range range, Kind kind, Measurement& measured) {
    const Growth growth = AnalyzeGrowth(curve);
    measured.value = std::max(0.0, growth.slope.slope);
    measured.sure = std::max(0.0, growth.slope.low);
    // A single rise is no warm-up that ended.
    const bool warm = growth.warm_up_cut && growth.rises >= 2;
    const size_t from = range.begin + (warm ? growth.first : 0), to = range.end - 1;
    const double width = curve.x.back() - curve.x[from - range.begin];
    measured.explanation.push_back(absl::StrFormat(
        "%s: %s in %s, %d requests%s", load_.name,
        Bytes(curve.bytes.back() - curve.bytes[from - range.begin]),
        FormatSeconds(times_[to] - times_[from]), Requests(to) - Requests(from),
        warm ? ", after a warm-up of " + FormatSeconds(growth.from_seconds - times_[range.begin])
             : ""));
    if (width > 0) measured.parts = Parts(from, to, kind, width);
    ExplainWhatDoesNotCount(from, to, kind, measured);
  }

  uint64_t Requests(size_t point) const { return report_.timeline->requests[point]; }

  void MeasureLeaks() {
    Measurement& measured = result_[BudgetKind::kLeakConfidence];
    measured.value = 0;
    for (size_t group = 0; group < report_.groups.size(); ++group) {
      const ReportGroup& one = report_.groups[group];
      if (one.verdict != "leak" || suppressed_[group]) continue;
      measured.parts.push_back({group, one.confidence});
    }
    std::stable_sort(
        measured.parts.begin(), measured.parts.end(),
        [](const MeasuredPart& a, const MeasuredPart& b) { return a.amount > b.amount; });
    if (!measured.parts.empty()) measured.value = measured.parts[0].amount;
    measured.sure = *measured.value;
  }

  void MeasureGrowthPerRequest() {
    Measurement& measured = result_[BudgetKind::kGrowthPerRequest];
    const Range range = Points(load_.begin, load_.end);
    const uint64_t requests =
        range.size() == 0 ? 0 : Requests(range.end - 1) - Requests(range.begin);
    if (range.size() < kLeastPoints || requests < kLeastRequests) {
      measured.why_not = report_.requests == 0 ? "no requests are marked (marks.jsonl)"
                         : range.size() < kLeastPoints
                             ? absl::StrCat(load_.name, " is too short a part of the session")
                             : absl::StrCat("too few requests in ", load_.name, ": ", requests,
                                            ", it takes ", kLeastRequests);
      return;
    }
    LiveCurve curve = CountedCurve(range, Kind::kHost);
    for (size_t i = range.begin; i < range.end; ++i) {
      curve.x.push_back(static_cast<double>(Requests(i)));
    }
    MeasureSlope(curve, range, Kind::kHost, measured);
  }

  // Heap and anonymous mappings of all processes, or what the kernel says of them.
  std::vector<double> HostLevels() const {
    std::vector<double> levels(times_.size(), 0);
    for (const ReportProcessCurves& process : report_.timeline->processes) {
      for (const auto& domain : process.domains) {
        if (KindOf(domain.domain, domain.mapping) != Kind::kHost) continue;
        for (size_t i = 0; i < levels.size(); ++i) levels[i] += At(domain.bytes, i);
      }
    }
    return levels;
  }
  std::vector<double> Gauges(ReportCurve ReportProcessCurves::*gauge, bool& known) const {
    std::vector<double> levels(times_.size(), 0);
    known = false;
    for (const ReportProcessCurves& process : report_.timeline->processes) {
      known = known || !(process.*gauge).empty();
      for (size_t i = 0; i < levels.size(); ++i) levels[i] += At(process.*gauge, i);
    }
    return levels;
  }

  void MeasureMemoryPerRequest() {
    Measurement& measured = result_[BudgetKind::kMemoryPerRequest];
    const Range range = Points(load_.begin, load_.end);
    if (report_.requests == 0 || range.size() < kLeastPoints) {
      measured.why_not = report_.requests == 0
                             ? "no requests are marked (marks.jsonl)"
                             : absl::StrCat(load_.name, " is too short a part of the session");
      return;
    }
    const std::vector<double> all = HostLevels();
    const std::vector<double> levels(all.begin() + static_cast<std::ptrdiff_t>(range.begin),
                                     all.begin() + static_cast<std::ptrdiff_t>(range.end));
    const std::vector<double> kept = Retained(levels);
    double most = 0;
    for (size_t i = 0; i < levels.size(); ++i) most = std::max(most, levels[i] - kept[i]);
    measured.value = measured.sure = most;
    measured.explanation.push_back("of all requests in flight together");
  }

  void MeasureGrowthPerHour(Kind kind, Measurement& measured) {
    const Range range = Points(load_.begin, load_.end);
    const double seconds = load_.end - load_.begin;
    if (kind == Kind::kGpu &&
        std::none_of(report_.processes.begin(), report_.processes.end(),
                     [](const auto& one) { return !one.gpu.ledgers.empty(); })) {
      measured.why_not = "no GPU memory in this session";
      return;
    }
    if (seconds < kLeastSecondsForHours || range.size() < kLeastPoints) {
      measured.why_not = absl::StrCat("too short: ", load_.name, " takes ", FormatSeconds(seconds),
                                      ", a rate by hour needs a minute");
      return;
    }
    LiveCurve curve = CountedCurve(range, kind);
    for (const double moment : curve.seconds) curve.x.push_back(moment / 3600);
    MeasureSlope(curve, range, kind, measured);
  }

  // Of the process and device whose residual grows most surely.
  void MeasureGpuResidual() {
    Measurement& measured = result_[BudgetKind::kGpuResidualPerHour];
    measured.why_not = "NVML told of no GPU memory of this session's processes";
    for (const ReportProcess& process : report_.processes) {
      for (const ReportGpuDevice& device : process.gpu.devices) {
        if (!device.residual) continue;
        const ReportResidual& residual = *device.residual;
        if (!residual.per_hour || residual.seconds < kLeastSecondsForHours) {
          if (!measured.value) {
            measured.why_not =
                absl::StrCat("too short: NVML told for ", FormatSeconds(residual.seconds),
                             ", a rate by hour needs a minute");
          }
          continue;
        }
        const double sure = std::max(0.0, residual.per_hour_low);
        if (measured.value && sure <= measured.sure) continue;
        measured.value = std::max(0.0, *residual.per_hour);
        measured.sure = sure;
        measured.explanation = {absl::StrCat("GPU ", device.device, " of ", process.name, " [",
                                             process.pid, "], ",
                                             Bytes(static_cast<double>(residual.last)), " now")};
        for (const ReportResidualStage& stage : residual.stages) {
          if (stage.bytes <= 0) continue;
          measured.explanation.push_back(
              absl::StrCat(Bytes(static_cast<double>(stage.bytes)), " came with ",
                           stage.stage == "other" ? "nothing that was seen" : stage.stage));
        }
      }
    }
  }

  void MeasureIdle() {
    Measurement& measured = result_[BudgetKind::kIdleGrowthPerHour];
    measured.why_not = absl::StrCat("no idle phase of ", FormatSeconds(kLeastIdleForHours));
    for (const ReportPhase& phase : report_.phases) {
      if (!phase.idle_per_hour || phase.end - phase.begin < kLeastIdleForHours) continue;
      if (measured.value && phase.idle_low <= measured.sure) continue;
      measured.value = std::max(0.0, *phase.idle_per_hour);
      measured.sure = std::max(0.0, phase.idle_low);
      measured.explanation = {
          absl::StrCat("phase ", phase.name, " of ", FormatSeconds(phase.end - phase.begin))};
      const Range range = Points(phase.begin, phase.end);
      measured.parts.clear();
      if (range.size() < 2) continue;
      measured.parts = Parts(range.begin, range.end - 1, Kind::kHost,
                             (times_[range.end - 1] - times_[range.begin]) / 3600);
    }
  }

  // The points between which the load has to leave nothing behind.
  std::optional<std::pair<size_t, size_t>> BeforeAndAfterLoad() const {
    const Range range = Points(load_.begin, load_.settled);
    if (range.size() < 2) return std::nullopt;
    size_t from = range.begin;
    if (!load_.warm) {
      LiveCurve curve = CountedCurve(range, Kind::kHost);
      curve.x = curve.seconds;
      from = range.begin + AnalyzeGrowth(curve).first;
    }
    return std::pair(from, range.end - 1);
  }

  std::string Moments(const std::pair<size_t, size_t>& points) const {
    return absl::StrCat("from ", FormatSeconds(times_[points.first]), " to ",
                        FormatSeconds(times_[points.second]), " of the session");
  }

  void MeasureRetainedAfterLoad() {
    Measurement& measured = result_[BudgetKind::kRetainedAfterLoad];
    const auto points = BeforeAndAfterLoad();
    if (!points) {
      measured.why_not = absl::StrCat(load_.name, " is too short a part of the session");
      return;
    }
    const auto [from, to] = *points;
    const LiveCurve curve = CountedCurve({from, to + 1}, Kind::kHost);
    measured.value = measured.sure = std::max(0.0, curve.bytes.back() - curve.bytes.front());
    measured.explanation.push_back(Moments(*points));
    measured.parts = Parts(from, to, Kind::kHost, 1);
    ExplainWhatDoesNotCount(from, to, Kind::kHost, measured);
    if (!report_.cycles.empty()) return;
    const std::vector<double> levels = HostLevels();
    double peak = 0;
    for (size_t i = from; i <= to; ++i) peak = std::max(peak, levels[i]);
    SetScore(*measured.value, peak - levels[from], load_.name);
  }

  void SetScore(double retained, double peak_growth, const std::string& of) {
    if (peak_growth <= 0) return;
    const double share = std::clamp(retained / peak_growth, 0.0, 1.0);
    result_.score = {retained, peak_growth, share, GradeOf(share), of};
  }

  void MeasureUnloads() {
    Measurement& retained = result_[BudgetKind::kRetainedAfterUnload];
    Measurement& recovery = result_[BudgetKind::kRecoveryTime];
    retained.why_not = recovery.why_not = "nothing was unloaded (no such phase)";
    for (const ReportCycle& cycle : report_.cycles) {
      const double survived = std::max(0.0, cycle.survived_bytes);
      const std::string what = absl::StrCat("loaded at ", FormatSeconds(cycle.loaded),
                                            ", unloaded at ", FormatSeconds(cycle.unload));
      if (!retained.value || survived > *retained.value) {
        retained.value = retained.sure = survived;
        retained.explanation = {absl::StrCat(what, ": ", Bytes(cycle.before_bytes), " before, ",
                                             Bytes(cycle.loaded_bytes), " loaded, ",
                                             Bytes(cycle.after_bytes), " after")};
        const Range range = Points(cycle.loaded, cycle.settled);
        retained.parts.clear();
        if (range.size() >= 2) {
          retained.parts = Parts(range.begin, range.end - 1, Kind::kHost, 1);
        }
      }
      if (cycle.loaded_bytes - cycle.before_bytes < kLeastExplained) continue;
      const double took = cycle.recovery_seconds.value_or(cycle.settled - cycle.unload);
      if (recovery.value && took <= *recovery.value) continue;
      recovery.value = recovery.sure = took;
      recovery.open = !cycle.recovery_seconds;
      recovery.why_not =
          absl::StrCat("not recovered when the unload phase ended after ", FormatSeconds(took));
      recovery.explanation = {what};
    }
    if (!report_.cycles.empty()) {
      const ReportCycle& last = report_.cycles.back();
      SetScore(last.survived_bytes, last.peak_bytes - last.before_bytes,
               "the last load and unload");
    }
    if (!report_.cycles.empty() && !recovery.value) {
      recovery.why_not = "loading took next to nothing";
    }
  }

  void MeasureOpenFiles() {
    Measurement& measured = result_[BudgetKind::kOpenFilesGrowth];
    bool known = false;
    const std::vector<double> files = Gauges(&ReportProcessCurves::open_files, known);
    const auto points = BeforeAndAfterLoad();
    if (!known || !points) {
      measured.why_not = "not sampled";
      return;
    }
    measured.value = measured.sure = std::max(0.0, files[points->second] - files[points->first]);
    measured.explanation.push_back(absl::StrFormat("%.0f, then %.0f, %s", files[points->first],
                                                   files[points->second], Moments(*points)));
  }

  void MeasurePeak() {
    Measurement& measured = result_[BudgetKind::kPeak];
    bool known = false;
    const std::vector<double> rss = Gauges(&ReportProcessCurves::rss_anon, known);
    const std::vector<double> live = HostLevels();
    double most_rss = 0, most_live = 0;
    for (const double level : rss) most_rss = std::max(most_rss, level);
    for (const double level : live) most_live = std::max(most_live, level);
    for (const ReportProcess& process : report_.processes) {
      most_live = std::max(most_live, static_cast<double>(process.host.peak_bytes));
    }
    measured.value = measured.sure = std::max(most_rss, most_live);
    measured.explanation.push_back(
        absl::StrCat(known ? absl::StrCat("RssAnon ", Bytes(most_rss), ", ") : std::string(),
                     "allocated ", Bytes(most_live)));
  }

  void MeasureRssGrowth() {
    Measurement& measured = result_[BudgetKind::kRssGrowth];
    bool known = false;
    const std::vector<double> rss = Gauges(&ReportProcessCurves::rss_anon, known);
    const auto points = BeforeAndAfterLoad();
    if (!known || !points) {
      measured.why_not = "not sampled";
      return;
    }
    measured.value = measured.sure = std::max(0.0, rss[points->second] - rss[points->first]);
    measured.explanation.push_back(absl::StrCat(
        Bytes(rss[points->first]), ", then ", Bytes(rss[points->second]), ", ", Moments(*points)));
    measured.parts = Parts(points->first, points->second, Kind::kHost, 1);
  }

  void MeasureFragmentation() {
    Measurement& measured = result_[BudgetKind::kFragmentation];
    measured.why_not = absl::StrCat("no heap of ", Bytes(static_cast<double>(kLeastHeap)),
                                    " whose pages are known");
    for (const ReportFragmentation& heap : report_.fragmentation) {
      if (heap.held < kLeastHeap) continue;
      const uint64_t stuck = heap.free_held - std::min(heap.free_held, heap.trimmable);
      const double share = static_cast<double>(stuck) / static_cast<double>(heap.held);
      if (measured.value && share <= *measured.value) continue;
      measured.value = measured.sure = share;
      const ReportProcess& process = report_.processes[heap.process];
      measured.explanation = {absl::StrCat(
          process.name, " [", process.pid, "]: of ", Bytes(static_cast<double>(heap.held)),
          " held, ", Bytes(static_cast<double>(heap.free_held)), " are free and ",
          Bytes(static_cast<double>(heap.trimmable)), " could be returned")};
    }
  }

  const Report& report_;
  const std::vector<bool>& suppressed_;
  const SteadyLoad load_;
  std::vector<double> times_;
  Measurements result_;
};

}  // namespace

Measurements Measure(const Report& report, const std::vector<bool>& suppressed) {
  return Measurer(report, suppressed).Run();
}

std::string PlaceOf(const Report& report, const ReportGroup& group) {
  if (group.frames.empty()) return "an unknown stack";
  const ReportFrame& frame = report.frames[group.frames[group.blamed_frame]];
  const auto base = [](absl::string_view path) { return path.substr(path.rfind('/') + 1); };
  const std::string function = frame.function.empty() ? absl::StrCat("0x", absl::Hex(frame.offset))
                                                      : ShortFunction(frame.function, 80);
  return frame.file.empty() ? absl::StrCat(function, " (", base(frame.module), ")")
                            : absl::StrCat(function, " (", base(frame.file), ":", frame.line, ")");
}

}  // namespace ollamatrace
