#include "analyzer/report/gpu_json.h"

#include <cmath>

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
Json OrNull(const std::optional<T>& value) {
  return value ? Json(*value) : Json(nullptr);
}

Json OrNull(const std::string& text) { return text.empty() ? Json(nullptr) : Json(text); }

Json ResidualJson(const ReportResidual& residual) {
  Json stages = Json::array();
  for (const ReportResidualStage& one : residual.stages) {
    stages.push_back({{"stage", one.stage}, {"count", one.count}, {"bytes", one.bytes}});
  }
  const auto rate = [&](double bytes) {
    return residual.per_hour ? Json(std::round(bytes)) : Json(nullptr);
  };
  return {{"first", residual.first},
          {"last", residual.last},
          {"bytes_per_hour", rate(residual.per_hour.value_or(0))},
          {"bytes_per_hour_low", rate(residual.per_hour_low)},
          {"bytes_per_hour_high", rate(residual.per_hour_high)},
          {"stages", stages}};
}

}  // namespace

Json GpuLedgersJson(const ReportGpu& gpu) {
  Json ledgers = Json::array();
  for (const ReportGpuLedger& one : gpu.ledgers) {
    ledgers.push_back(
        {{"device", OrNull(one.device)},
         {"domain", one.domain},
         {"memory", one.memory},
         {"live_bytes", one.live_bytes},
         {"live_blocks", one.live_blocks},
         {"peak_bytes", one.peak_bytes},
         {"allocations", one.allocations},
         {"frees", one.frees},
         {"implicitly_freed",
          {{"blocks", one.implicitly_freed_blocks}, {"bytes", one.implicitly_freed_bytes}}},
         {"rounding_bytes", OrNull(one.rounding_bytes)}});
  }
  return ledgers;
}

Json GpuDevicesJson(const ReportGpu& gpu) {
  Json devices = Json::array();
  for (const ReportGpuDevice& one : gpu.devices) {
    devices.push_back({{"device", one.device},
                       {"samples", one.samples},
                       {"total_bytes", OrNull(one.total)},
                       {"used_bytes", OrNull(one.used)},
                       {"process_bytes", OrNull(one.process)},
                       {"traced_bytes", one.traced},
                       {"module_bytes", one.module_bytes},
                       {"residual", one.residual ? ResidualJson(*one.residual) : Json(nullptr)}});
  }
  return devices;
}

Json GpuCaptureJson(const ReportGpu& gpu) {
  Json failures = Json::array();
  for (const ReportGpuFailure& failure : gpu.failures) {
    failures.push_back({{"at", std::round(failure.at * 1e6) / 1e6},
                        {"kind", failure.kind},
                        {"device", OrNull(failure.device)},
                        {"domain", failure.domain},
                        {"function", OrNull(failure.function)},
                        {"status", failure.status},
                        {"size", failure.size},
                        {"free_bytes", OrNull(failure.free_bytes)}});
  }
  return {{"state", OrNull(gpu.capture)},
          {"reason", OrNull(gpu.reason)},
          {"where", OrNull(gpu.where)},
          {"driver_loaded", gpu.driver_loaded},
          {"failed_allocations", gpu.failed_allocations},
          {"failed_frees", gpu.failed_frees},
          {"failures", failures}};
}

}  // namespace ollamatrace
