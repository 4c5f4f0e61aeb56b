#include "analyzer/report/timeline_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

double Most(const ReportCurve& curve) {
  double most = 0;
  for (const std::optional<double>& level : curve) most = std::max(most, level.value_or(0));
  return most;
}

std::string Known(const ReportProcess& process) {
  std::string name = absl::StrCat(process.name, " [", process.pid, "]");
  for (char& c : name) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return name;
}

// Names of phases where they begin, as far as there is room.
std::string PhaseLine(const Report& report) {
  const std::vector<double>& times = report.timeline->times;
  std::string line(times.size(), ' ');
  for (const ReportPhase& phase : report.phases) {
    const size_t at = static_cast<size_t>(
        std::lower_bound(times.begin(), times.end(), phase.begin) - times.begin());
    if (at >= times.size()) continue;
    const std::string text = absl::StrCat("|", phase.name);
    for (size_t i = at; i < times.size(); ++i) {
      const size_t j = i - at;
      line[i] = j < text.size() && static_cast<unsigned char>(text[j]) >= 0x20 &&
                        static_cast<unsigned char>(text[j]) < 0x7f
                    ? text[j]
                    : ' ';
    }
  }
  return line;
}

std::string CurveLine(const std::string& name, const ReportCurve& curve) {
  double last = 0;
  for (const std::optional<double>& level : curve) last = level.value_or(last);
  return absl::StrFormat("  %-24s %s  %10s  %10s", name, Sparkline(curve, Most(curve)),
                         FormatBytes(Most(curve)), FormatBytes(last));
}

ReportCurve RequestsPerPoint(const ReportTimeline& timeline) {
  ReportCurve curve;
  uint64_t before = 0;
  for (const uint64_t answered : timeline.requests) {
    curve.push_back(static_cast<double>(answered - before));
    before = answered;
  }
  return curve;
}

}  // namespace

std::string Sparkline(const ReportCurve& curve, double most) {
  static constexpr const char* kHeights[] = {"\u2581", "\u2582", "\u2583", "\u2584",
                                             "\u2585", "\u2586", "\u2587", "\u2588"};
  std::string line;
  for (const std::optional<double>& level : curve) {
    if (!level) {
      line += ' ';
    } else if (*level <= 0 || most <= 0) {
      line += '.';
    } else {
      line += kHeights[std::min<size_t>(7, static_cast<size_t>(8 * *level / most))];
    }
  }
  return line;
}

std::vector<std::string> CyclesText(const Report& report) {
  std::vector<std::string> lines;
  if (!report.phases.empty()) {
    lines.push_back("Phases, with live heap and anonymous mappings of all processes:");
    lines.push_back(absl::StrFormat("  %-16s %10s %10s %10s %12s %12s %12s  %s", "PHASE", "BEGIN",
                                    "LENGTH", "REQUESTS", "AT BEGIN", "PEAK", "AT END",
                                    "IDLE SLOPE"));
  }
  for (const ReportPhase& phase : report.phases) {
    std::string name;
    for (const char c : phase.name.substr(0, 16)) {
      name += static_cast<unsigned char>(c) < 0x20 || c == 0x7f ? '?' : c;
    }
    lines.push_back(absl::StrFormat(
        "  %-16s %10s %10s %10s %12s %12s %12s  %s", name, FormatSeconds(phase.begin),
        FormatSeconds(phase.end - phase.begin), FormatCount(phase.requests),
        FormatBytes(phase.begin_bytes), FormatBytes(phase.peak_bytes), FormatBytes(phase.end_bytes),
        phase.idle_per_hour ? absl::StrCat(FormatBytes(*phase.idle_per_hour),
                                           " per hour (95 %: ", FormatBytes(phase.idle_low), " to ",
                                           FormatBytes(phase.idle_high), ")")
                            : ""));
  }
  if (!report.cycles.empty()) {
    lines.push_back("");
    lines.push_back("Load cycles:");
    lines.push_back(absl::StrFormat("  %3s %12s %12s %12s %12s %12s %10s  %s", "#", "BEFORE",
                                    "LOAD PEAK", "AT UNLOAD", "AFTER", "SURVIVED", "RECOVERY",
                                    "KILLED, HELD"));
  }
  for (size_t i = 0; i < report.cycles.size(); ++i) {
    const ReportCycle& cycle = report.cycles[i];
    std::vector<std::string> killed;
    for (const size_t process : cycle.killed) killed.push_back(Known(report.processes[process]));
    lines.push_back(absl::StrFormat(
        "  %3d %12s %12s %12s %12s %12s %10s  %s", i + 1, FormatBytes(cycle.before_bytes),
        FormatBytes(cycle.peak_bytes), FormatBytes(cycle.loaded_bytes),
        FormatBytes(cycle.after_bytes), FormatBytes(cycle.survived_bytes),
        cycle.recovery_seconds ? FormatSeconds(*cycle.recovery_seconds) : "never",
        killed.empty() ? "-"
                       : absl::StrCat(absl::StrJoin(killed, ", "), ", ",
                                      FormatBytes(static_cast<double>(cycle.killed_bytes)))));
  }
  for (const ReportOrphan& orphan : report.orphans) {
    lines.push_back(absl::StrCat(Known(report.processes[orphan.process]), " outlived ",
                                 Known(report.processes[orphan.parent]), ", which started it, by ",
                                 FormatSeconds(orphan.outlived), " at least"));
  }
  return lines;
}

std::vector<std::string> TimelineText(const Report& report,
                                      const std::function<std::string(const ReportGroup&)>& label) {
  std::vector<std::string> lines;
  if (!report.timeline || report.timeline->times.empty()) return lines;
  const ReportTimeline& timeline = *report.timeline;
  const size_t points = timeline.times.size();
  const double width =
      points < 2 ? timeline.times.front() : timeline.times[1] - timeline.times.front();
  lines.push_back(
      absl::StrFormat("Live bytes at %d moments, %s apart, to %s; each line has a scale of its own",
                      points, FormatSeconds(width), FormatSeconds(timeline.times.back())));
  lines.push_back(absl::StrFormat(
      "  %-24s %s  %10s  %10s", report.phases.empty() ? "" : "phases",
      report.phases.empty() ? std::string(points, ' ') : PhaseLine(report), "MOST", "LAST"));
  if (timeline.requests.back() > 0) {
    const ReportCurve requests = RequestsPerPoint(timeline);
    lines.push_back(absl::StrFormat(
        "  %-24s %s  %10s  %10s in all", "requests", Sparkline(requests, Most(requests)),
        FormatCount(static_cast<uint64_t>(Most(requests))), FormatCount(timeline.requests.back())));
  }
  for (const ReportProcessCurves& process : timeline.processes) {
    if (std::none_of(process.domains.begin(), process.domains.end(),
                     [](const auto& domain) { return Most(domain.bytes) > 0; })) {
      continue;
    }
    lines.push_back("");
    lines.push_back(Known(report.processes[process.process]));
    for (const auto& domain : process.domains) {
      lines.push_back(CurveLine(domain.mapping.empty()
                                    ? domain.domain
                                    : absl::StrCat(domain.domain, ", ", domain.mapping),
                                domain.bytes));
    }
    if (!process.rss_anon.empty()) lines.push_back(CurveLine("RssAnon", process.rss_anon));
  }
  if (!report.groups.empty()) {
    lines.push_back("");
    lines.push_back("Groups");
  }
  for (const ReportGroup& group : report.groups) {
    lines.push_back(
        absl::StrCat(CurveLine(absl::StrCat("#", group.rank, " ", group.verdict), group.curve),
                     "  ", label(group)));
  }
  return lines;
}

}  // namespace ollamatrace
