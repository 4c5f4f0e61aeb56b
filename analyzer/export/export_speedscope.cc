#include <string>
#include <vector>

#include "analyzer/export/export_names.h"
#include "analyzer/export/exporters.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

std::string Dump(const Json& json) {
  return json.dump(-1, ' ', /*ensure_ascii=*/false, Json::error_handler_t::replace);
}

}  // namespace

void ExportSpeedscope(const Report& report, const OutputSink& sink) {
  sink("{\"$schema\":\"https://www.speedscope.app/file-format-schema.json\",\"name\":");
  sink(Dump(report.title));
  sink(",\"exporter\":\"ollama-leakview\",\"activeProfileIndex\":0,\n\"shared\":{\"frames\":[");
  // The processes follow the frames: each is the outermost frame of its stacks.
  bool first = true;
  const auto frame = [&](const Json& json) {
    sink(first ? "\n" : ",\n");
    first = false;
    sink(Dump(json));
  };
  for (const ReportFrame& one : report.frames) {
    Json json = {{"name", ExportFrameName(one)}};
    if (!one.file.empty()) json["file"] = one.file;
    if (one.line != 0) json["line"] = one.line;
    frame(json);
  }
  for (const ReportProcess& process : report.processes) {
    frame({{"name", process.name + " [" + std::to_string(process.pid) + "]"}});
  }
  sink("]},\n\"profiles\":[");
  first = true;
  for (const ExportMetric metric : kExportMetrics) {
    std::string samples, weights;
    uint64_t total = 0;
    for (const ReportGroup& group : report.groups) {
      const uint64_t weight = ExportWeight(group, metric);
      if (weight == 0 || !CountsAsMemory(group)) continue;
      samples += samples.empty() ? "[" : ",\n[";
      samples += std::to_string(report.frames.size() + group.processes.front());
      for (auto it = group.frames.rbegin(); it != group.frames.rend(); ++it) {
        samples += ',';
        samples += std::to_string(*it);
      }
      samples += ']';
      weights += weights.empty() ? "" : ",";
      weights += std::to_string(weight);
      total += weight;
    }
    sink(first ? "\n" : ",\n");
    first = false;
    std::string head = Dump({{"type", "sampled"},
                             {"name", ExportMetricName(metric)},
                             {"unit", IsBytes(metric) ? "bytes" : "none"},
                             {"startValue", 0},
                             {"endValue", total}});
    head.pop_back();  // the brace: the long arrays follow
    sink(head);
    sink(",\"samples\":[");
    sink(samples);
    sink("],\"weights\":[");
    sink(weights);
    sink("]}");
  }
  sink("]}\n");
}

}  // namespace ollamatrace
