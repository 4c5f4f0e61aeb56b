#include <cmath>
#include <optional>
#include <string>

#include "analyzer/export/exporters.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

int64_t Micros(double seconds) { return std::llround(seconds * 1e6); }

}  // namespace

void ExportPerfetto(const Report& report, const OutputSink& sink) {
  sink("{\"displayTimeUnit\":\"ms\",\"traceEvents\":[");
  bool first = true;
  const auto event = [&](const Json& json) {
    sink(first ? "\n" : ",\n");
    first = false;
    sink(json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace));
  };
  const auto counters = [&](const std::string& name, uint32_t pid, const ReportCurve& curve) {
    std::optional<int64_t> last;
    for (size_t i = 0; i < curve.size(); ++i) {
      if (!curve[i]) continue;
      const int64_t bytes = std::llround(*curve[i]);
      if (last == bytes) continue;
      last = bytes;
      event({{"ph", "C"},
             {"name", name},
             {"pid", pid},
             {"ts", Micros(report.timeline->times[i])},
             {"args", {{"bytes", bytes}}}});
    }
  };
  for (const ReportProcess& process : report.processes) {
    event({{"ph", "M"},
           {"name", "process_name"},
           {"pid", process.pid},
           {"args", {{"name", process.name}}}});
  }
  if (report.timeline) {
    for (const ReportProcessCurves& curves : report.timeline->processes) {
      const uint32_t pid = report.processes[curves.process].pid;
      for (const auto& domain : curves.domains) {
        counters(domain.mapping.empty() ? domain.domain : domain.domain + " " + domain.mapping, pid,
                 domain.bytes);
      }
      counters("RssAnon", pid, curves.rss_anon);
    }
  }
  // On a track of their own, of no process.
  for (const ReportPhase& phase : report.phases) {
    event({{"ph", "X"},
           {"name", phase.name},
           {"cat", phase.kind},
           {"pid", 0},
           {"tid", 0},
           {"ts", Micros(phase.begin)},
           {"dur", Micros(phase.end - phase.begin)},
           {"args", {{"requests", phase.requests}}}});
  }
  if (!report.phases.empty()) {
    event({{"ph", "M"}, {"name", "process_name"}, {"pid", 0}, {"args", {{"name", "phases"}}}});
  }
  sink("\n]}\n");
}

}  // namespace ollamatrace
