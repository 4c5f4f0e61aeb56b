#include "analyzer/report/build_gpu.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "analyzer/diagnose/residual.h"

namespace ollamatrace {
namespace {

const char* StateName(GpuCaptureState state) {
  switch (state) {
    case GpuCaptureState::kUnavailable:
      return "unavailable";
    case GpuCaptureState::kActive:
      return "active";
    case GpuCaptureState::kPartial:
      return "partial";
    case GpuCaptureState::kPrepared:
      return "prepared";
  }
  return "unavailable";
}

std::optional<uint32_t> Known(uint32_t device) {
  return device == kNoDevice ? std::nullopt : std::optional<uint32_t>(device);
}

bool LoadedTheDriver(const ProcessHistory& history) {
  return std::any_of(history.modules.begin(), history.modules.end(), [](const auto& module) {
    const absl::string_view path = module.second.path;
    return absl::StartsWith(path.substr(path.rfind('/') + 1), "libcuda.so");
  });
}

std::optional<uint64_t> KnownGauge(uint64_t gauge) {
  return gauge == kUnknownGauge ? std::nullopt : std::optional<uint64_t>(gauge);
}

// At the last look before `time_ns`.
std::optional<uint64_t> FreeBytes(const ProcessHistory& history, uint32_t device,
                                  uint64_t time_ns) {
  const auto points = history.gpu.points.find(device);
  if (points == history.gpu.points.end()) return std::nullopt;
  std::optional<uint64_t> free_bytes;
  for (const GpuPoint& point : points->second) {
    const GpuSampleRecord& sample = point.sample;
    if (sample.time_ns > time_ns) break;
    if (sample.used_bytes == kUnknownGauge || sample.total_bytes == kUnknownGauge ||
        sample.used_bytes > sample.total_bytes) {
      continue;
    }
    free_bytes = sample.total_bytes - sample.used_bytes;
  }
  return free_bytes;
}

// Libraries that keep memory of their own on a device from their first use on.
bool KeepsDeviceMemory(absl::string_view path) {
  const absl::string_view name = path.substr(path.rfind('/') + 1);
  constexpr absl::string_view kLibraries[] = {"libcublas", "libcudnn",    "libcufft",   "libcurand",
                                              "libnccl",   "libcusolver", "libcusparse"};
  return std::any_of(std::begin(kLibraries), std::end(kLibraries),
                     [&](absl::string_view library) { return absl::StartsWith(name, library); });
}

// The times of the first allocations that such libraries made, by device, ascending.
std::map<uint32_t, std::vector<uint64_t>> FirstUses(const ProcessHistory& history) {
  std::map<std::pair<uint32_t, std::string>, uint64_t> first;
  for (const auto& [key, stats] : history.stacks) {
    const GpuPlace* const place = IsGpu(key.domain) ? history.PlaceOf(key.stack) : nullptr;
    if (place == nullptr || stats.first_ns == kNever) continue;
    size_t depth = 0;
    auto node = history.nodes.Find(key.stack);
    for (; node && depth < kMaxStackDepth; ++depth) {
      const auto module = history.modules.find(static_cast<uint32_t>(node->module));
      if (module != history.modules.end() && KeepsDeviceMemory(module->second.path)) {
        const auto use = first.emplace(std::pair(place->device, module->second.path), kNever).first;
        use->second = std::min(use->second, stats.first_ns);
      }
      node = history.nodes.Find(node->parent);
    }
  }
  std::map<uint32_t, std::vector<uint64_t>> times;
  for (const auto& [use, time_ns] : first) times[use.first].push_back(time_ns);
  for (auto& [device, all] : times) std::sort(all.begin(), all.end());
  return times;
}

void AddResidual(const std::vector<GpuPoint>& points, const std::vector<uint64_t>& first_uses,
                 ReportGpuDevice& device) {
  constexpr const char* kStages[kResidualStages] = {"context", "library", "modules", "graphs",
                                                    "other"};
  std::vector<ResidualPoint> known;
  for (const GpuPoint& point : points) {
    if (point.sample.process_bytes == kUnknownGauge) continue;
    ResidualPoint one;
    one.time_ns = point.sample.time_ns;
    one.bytes = static_cast<int64_t>(point.sample.process_bytes - point.traced_bytes);
    one.contexts = point.sample.contexts;
    one.modules = point.sample.modules;
    one.graphs = point.graphs;
    one.libraries = static_cast<uint64_t>(
        std::upper_bound(first_uses.begin(), first_uses.end(), one.time_ns) - first_uses.begin());
    known.push_back(one);
  }
  if (known.empty()) return;
  const Residual residual = CalibrateResidual(known);
  const ResidualPoint& last = known.back();
  const uint64_t counts[kResidualStages] = {last.contexts, last.libraries, last.modules,
                                            last.graphs, 0};
  device.residual.emplace();
  device.residual->first = residual.first;
  device.residual->last = residual.last;
  device.residual->seconds = static_cast<double>(last.time_ns - known.front().time_ns) / 1e9;
  if (residual.per_hour) {
    device.residual->per_hour = residual.per_hour->slope;
    device.residual->per_hour_low = residual.per_hour->low;
    device.residual->per_hour_high = residual.per_hour->high;
  }
  for (size_t i = 0; i < kResidualStages; ++i) {
    if (counts[i] == 0 && residual.by_stage[i] == 0) continue;
    device.residual->stages.push_back({kStages[i], counts[i], residual.by_stage[i]});
  }
}

void AddDevices(const ProcessHistory& history, ReportGpu& gpu) {
  if (history.gpu.points.empty()) return;
  const std::map<uint32_t, std::vector<uint64_t>> first_uses = FirstUses(history);
  for (const auto& [device, points] : history.gpu.points) {
    if (points.empty()) continue;
    const GpuPoint& last = points.back();
    ReportGpuDevice one;
    one.device = device;
    one.samples = points.size();
    one.total = KnownGauge(last.sample.total_bytes);
    one.used = KnownGauge(last.sample.used_bytes);
    one.process = KnownGauge(last.sample.process_bytes);
    one.traced = last.traced_bytes;
    one.module_bytes = last.sample.module_bytes;
    const auto uses = first_uses.find(device);
    AddResidual(points, uses == first_uses.end() ? std::vector<uint64_t>() : uses->second, one);
    gpu.devices.push_back(std::move(one));
  }
}

void AddLedgers(const ProcessHistory& history, ReportGpu& gpu) {
  std::map<std::pair<uint32_t, Domain>, ReportGpuLedger> ledgers;
  const auto ledger = [&](Domain domain, uint32_t device) -> ReportGpuLedger& {
    ReportGpuLedger& one = ledgers[{device, domain}];
    one.device = Known(device);
    one.domain = DomainName(domain);
    one.memory = IsOwnMemory(domain);
    return one;
  };
  for (const auto& [key, total] : history.gpu.totals) {
    ReportGpuLedger& one = ledger(key.first, key.second);
    one.live_bytes = total.live_bytes;
    one.live_blocks = total.live_blocks;
    one.peak_bytes = total.peak_bytes;
    one.allocations = total.allocations;
    one.frees = total.frees;
  }
  for (const auto& [key, told] : history.gpu.ledgers) {
    ReportGpuLedger& one = ledger(key.first, key.second);
    one.peak_bytes = std::max(one.peak_bytes, told.peak_bytes);
  }
  for (const auto& [key, frees] : history.gpu.implicit) {
    const GpuPlace* const place = history.PlaceOf(StackId{key.first});
    ReportGpuLedger& one = ledger(key.second, place == nullptr ? kNoDevice : place->device);
    one.implicitly_freed_blocks += frees.blocks;
    one.implicitly_freed_bytes += frees.bytes;
    one.frees -= std::min(one.frees, frees.blocks);
  }
  for (const auto& [device, bytes] : history.gpu.rounding_bytes) {
    ledger(Domain::kDevice, device).rounding_bytes = bytes;
  }
  for (auto& [key, one] : ledgers) {
    if (one.memory) gpu.live_bytes += one.live_bytes;
    gpu.ledgers.push_back(std::move(one));
  }
}

}  // namespace

ReportGpu MakeGpu(const ProcessHistory& history, const std::function<double(uint64_t)>& seconds,
                  const std::function<std::vector<uint32_t>(StackId)>& frames) {
  ReportGpu gpu;
  if (history.gpu.capture) {
    gpu.capture = StateName(history.gpu.capture->state);
    gpu.reason = history.gpu.capture->reason;
    gpu.where = history.gpu.capture->where;
  }
  gpu.driver_loaded = LoadedTheDriver(history);
  AddLedgers(history, gpu);
  AddDevices(history, gpu);
  gpu.failed_allocations = history.gpu.failed_allocations;
  gpu.failed_frees = history.gpu.failed_frees;
  for (const GpuFailure& failure : history.gpu.failures) {
    const GpuPlace* const place = history.PlaceOf(failure.stack);
    const uint32_t device = place == nullptr ? kNoDevice : place->device;
    ReportGpuFailure one;
    one.at = seconds(failure.time_ns);
    one.kind = failure.kind == GpuFailureKind::kFree ? "free" : "allocation";
    one.device = Known(device);
    one.domain = DomainName(failure.domain);
    one.function = place == nullptr ? "" : place->function;
    one.status = failure.status;
    one.size = failure.size;
    if (failure.kind == GpuFailureKind::kAllocation) {
      one.free_bytes = FreeBytes(history, device, failure.time_ns);
    }
    one.frames = frames(failure.stack);
    gpu.failures.push_back(std::move(one));
  }
  return gpu;
}

std::string GpuNote(const ReportGpu& gpu) {
  const std::string where = gpu.where.empty() ? "" : absl::StrCat(" (", gpu.where, ")");
  if (gpu.capture == "partial") {
    return absl::StrCat("GPU capture is partial: ", gpu.reason, where);
  }
  if (!gpu.driver_loaded || gpu.capture == "active" || gpu.capture.empty()) return "";
  if (gpu.capture == "prepared") {
    return absl::StrCat(
        "GPU capture unavailable: the CUDA driver was loaded, and has not loaded its library",
        where);
  }
  return absl::StrCat("GPU capture unavailable: ", gpu.reason, where);
}

}  // namespace ollamatrace
