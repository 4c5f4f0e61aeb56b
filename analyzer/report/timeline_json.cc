#include "analyzer/report/timeline_json.h"

#include <cmath>
#include <utility>

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

// To the microsecond.
Json Seconds(double seconds) { return std::round(seconds * 1e6) / 1e6; }
Json Bytes(double bytes) { return static_cast<int64_t>(std::llround(bytes)); }

}  // namespace

Json CurveJson(const ReportCurve& curve) {
  Json json = Json::array();
  for (const std::optional<double>& level : curve) json.push_back(level ? Bytes(*level) : nullptr);
  return json;
}

Json CurveChangesJson(const ReportCurve& curve) {
  Json json = Json::array();
  Json last;
  for (size_t i = 0; i < curve.size(); ++i) {
    Json level = curve[i] ? Bytes(*curve[i]) : Json(nullptr);
    if (level == last) continue;
    json.push_back(i);
    json.push_back(level);
    last = std::move(level);
  }
  return json;
}

Json PhasesJson(const Report& report) {
  Json json = Json::array();
  for (const ReportPhase& phase : report.phases) {
    json.push_back(
        {{"name", phase.name},
         {"kind", phase.kind},
         {"begin", Seconds(phase.begin)},
         {"end", Seconds(phase.end)},
         {"requests", phase.requests},
         {"begin_bytes", Bytes(phase.begin_bytes)},
         {"peak_bytes", Bytes(phase.peak_bytes)},
         {"end_bytes", Bytes(phase.end_bytes)},
         {"idle_bytes_per_hour", phase.idle_per_hour ? Bytes(*phase.idle_per_hour) : Json(nullptr)},
         {"idle_interval", phase.idle_per_hour ? Json{Bytes(phase.idle_low), Bytes(phase.idle_high)}
                                               : Json(nullptr)}});
  }
  return json;
}

Json CyclesJson(const Report& report) {
  Json json = Json::array();
  for (const ReportCycle& cycle : report.cycles) {
    Json killed = Json::array();
    for (const size_t process : cycle.killed) killed.push_back(report.processes[process].pid);
    json.push_back({{"loaded", Seconds(cycle.loaded)},
                    {"unload", Seconds(cycle.unload)},
                    {"settled", Seconds(cycle.settled)},
                    {"before_bytes", Bytes(cycle.before_bytes)},
                    {"peak_bytes", Bytes(cycle.peak_bytes)},
                    {"loaded_bytes", Bytes(cycle.loaded_bytes)},
                    {"after_bytes", Bytes(cycle.after_bytes)},
                    {"survived_bytes", Bytes(cycle.survived_bytes)},
                    {"recovery_seconds",
                     cycle.recovery_seconds ? Seconds(*cycle.recovery_seconds) : Json(nullptr)},
                    {"killed", killed},
                    {"killed_bytes", cycle.killed_bytes}});
  }
  return json;
}

Json OrphansJson(const Report& report) {
  Json json = Json::array();
  for (const ReportOrphan& orphan : report.orphans) {
    json.push_back({{"pid", report.processes[orphan.process].pid},
                    {"parent", report.processes[orphan.parent].pid},
                    {"outlived", Seconds(orphan.outlived)}});
  }
  return json;
}

Json TimelineJson(const Report& report) {
  const ReportTimeline& timeline = *report.timeline;
  Json times = Json::array(), processes = Json::array();
  for (const double time : timeline.times) times.push_back(Seconds(time));
  for (const ReportProcessCurves& process : timeline.processes) {
    Json domains = Json::array();
    for (const auto& domain : process.domains) {
      domains.push_back({{"domain", domain.domain},
                         {"mapping", domain.mapping.empty() ? Json(nullptr) : Json(domain.mapping)},
                         {"live_bytes", CurveJson(domain.bytes)}});
    }
    processes.push_back({{"pid", report.processes[process.process].pid},
                         {"process", process.process},
                         {"domains", domains},
                         {"rss_anon", CurveJson(process.rss_anon)}});
  }
  return {{"times", times}, {"requests", timeline.requests}, {"processes", processes}};
}

}  // namespace ollamatrace
