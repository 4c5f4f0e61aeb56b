#include "analyzer/report/build_gpu.h"

#include <algorithm>
#include <tuple>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"

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

// At the last look before `time_ns`.
std::optional<uint64_t> FreeBytes(const ProcessHistory& history, uint32_t device,
                                  uint64_t time_ns) {
  std::optional<uint64_t> free_bytes;
  for (const GpuSampleRecord& sample : history.gpu.samples) {
    if (sample.time_ns > time_ns) break;
    if (sample.device != device || sample.used_bytes == kUnknownGauge ||
        sample.total_bytes == kUnknownGauge || sample.used_bytes > sample.total_bytes) {
      continue;
    }
    free_bytes = sample.total_bytes - sample.used_bytes;
  }
  return free_bytes;
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
