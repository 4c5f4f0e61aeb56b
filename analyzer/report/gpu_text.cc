#include "analyzer/report/gpu_text.h"

#include <algorithm>
#include <map>
#include <tuple>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr size_t kShownFailures = 5;

std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

std::string Clean(absl::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return clean;
}

std::string DeviceText(const std::optional<uint32_t>& device) {
  return device ? absl::StrCat(*device) : "-";
}

void AddLedgers(const ReportGpu& gpu, std::vector<std::string>& lines) {
  lines.push_back(absl::StrFormat("  %3s %-14s %10s %10s %10s %10s %10s  %s", "GPU", "", "LIVE",
                                  "BLOCKS", "PEAK", "ALLOCATED", "FREED", "ENDED WITH CONTEXT"));
  bool referring = false;
  for (const bool memory : {true, false}) {
    for (const ReportGpuLedger& one : gpu.ledgers) {
      if (one.memory != memory) continue;
      if (!memory && !referring) {
        referring = true;
        lines.push_back("      no memory of their own:");
      }
      lines.push_back(absl::StrFormat(
          "  %3s %-14s %10s %10s %10s %10s %10s  %s", DeviceText(one.device), one.domain,
          Bytes(one.live_bytes), FormatCount(one.live_blocks), Bytes(one.peak_bytes),
          FormatCount(one.allocations), FormatCount(one.frees),
          one.implicitly_freed_blocks == 0
              ? ""
              : absl::StrCat(Bytes(one.implicitly_freed_bytes), " in ",
                             FormatCount(one.implicitly_freed_blocks))));
    }
  }
}

std::string Signed(double bytes) { return absl::StrCat(bytes < 0 ? "" : "+", FormatBytes(bytes)); }

std::string StageText(const ReportResidualStage& one) {
  const std::string bytes = FormatBytes(static_cast<double>(one.bytes));
  if (one.stage == "context") {
    return absl::StrCat(bytes, " with ", one.count == 1 ? "the context" : "contexts");
  }
  if (one.stage == "library") return absl::StrCat(bytes, " at the first use of libraries");
  if (one.stage == "modules") {
    return absl::StrCat(bytes, " with ", FormatCount(one.count),
                        one.count == 1 ? " module of code" : " modules of code");
  }
  if (one.stage == "graphs") return absl::StrCat(bytes, " with executable graphs");
  return absl::StrCat(bytes, " with nothing that was seen");
}

void AddResidual(const ReportResidual& residual, std::vector<std::string>& lines) {
  lines.push_back(absl::StrCat(
      "    not traced (no leak by itself): ", FormatBytes(static_cast<double>(residual.last)),
      ", at first ", FormatBytes(static_cast<double>(residual.first)),
      residual.per_hour ? absl::StrCat(", ", Signed(*residual.per_hour), " per hour") : ""));
  std::string came;
  for (const ReportResidualStage& one : residual.stages) {
    if (one.bytes == 0) continue;
    absl::StrAppend(&came, came.empty() ? "      came: " : ", ", StageText(one));
  }
  if (!came.empty()) lines.push_back(came);
}

void AddDevices(const ReportGpu& gpu, std::vector<std::string>& lines) {
  for (const ReportGpuDevice& one : gpu.devices) {
    std::string line = absl::StrCat("  GPU ", one.device, " by NVML: ");
    if (one.used && one.total) {
      absl::StrAppend(&line, Bytes(*one.used), " of ", Bytes(*one.total), " in use, ");
    }
    absl::StrAppend(&line, one.process ? absl::StrCat(Bytes(*one.process), " by this process, ",
                                                      Bytes(one.traced), " of it traced")
                                       : "how much of it by this process is not known");
    lines.push_back(line);
    if (one.residual) AddResidual(*one.residual, lines);
  }
}

void AddRounding(const ReportGpu& gpu, std::vector<std::string>& lines) {
  for (const ReportGpuLedger& one : gpu.ledgers) {
    if (one.rounding_bytes.value_or(0) == 0) continue;
    lines.push_back(absl::StrCat("  GPU ", DeviceText(one.device), ": ", Bytes(*one.rounding_bytes),
                                 " more where cudaMalloc rounds to pages of 2 MiB (estimated)"));
  }
}

// What physical memory, its mappings and the addresses reserved for them are to each other.
void AddVirtual(const ReportGpu& gpu, std::vector<std::string>& lines) {
  uint64_t physical = 0, mapped = 0, reserved = 0;
  for (const ReportGpuLedger& one : gpu.ledgers) {
    if (one.domain == "virtual") physical += one.live_bytes;
    if (one.domain == "mapped") mapped += one.live_bytes;
    if (one.domain == "address-space") reserved += one.live_bytes;
  }
  if (physical + mapped + reserved == 0) return;
  lines.push_back(absl::StrCat("  Virtual memory management: ", Bytes(physical), " physical, ",
                               Bytes(mapped), " mapped, ", Bytes(reserved),
                               " of addresses reserved"));
}

void AddFailures(const ReportGpu& gpu, std::vector<std::string>& lines) {
  if (gpu.failed_allocations + gpu.failed_frees == 0) return;
  lines.push_back(absl::StrCat("  Failed: ", FormatCount(gpu.failed_allocations), " allocations, ",
                               FormatCount(gpu.failed_frees), " frees"));
  for (size_t i = 0; i < std::min(kShownFailures, gpu.failures.size()); ++i) {
    const ReportGpuFailure& failure = gpu.failures[i];
    std::string line = absl::StrCat("    ", FormatSeconds(failure.at), "  ", failure.function,
                                    " of ", Bytes(failure.size),
                                    failure.device ? absl::StrCat(" on GPU ", *failure.device) : "",
                                    ": CUDA error ", failure.status);
    if (failure.free_bytes) {
      absl::StrAppend(
          &line, ", ", Bytes(*failure.free_bytes), " were free",
          *failure.free_bytes >= failure.size ? ": fragmented, or another's limit" : "");
    }
    lines.push_back(line);
  }
}

}  // namespace

std::vector<std::string> GpuText(const ReportProcess& process) {
  std::vector<std::string> lines;
  const ReportGpu& gpu = process.gpu;
  if (gpu.ledgers.empty() && gpu.failed_allocations + gpu.failed_frees == 0) return lines;
  lines.push_back(absl::StrCat(
      "GPU memory of ", Clean(process.name), " [", process.pid, "]: ", Bytes(gpu.live_bytes),
      " live; capture ", gpu.capture,
      gpu.capture != "active" || gpu.where.empty() ? "" : absl::StrCat(" by ", Clean(gpu.where))));
  if (!gpu.ledgers.empty()) AddLedgers(gpu, lines);
  AddVirtual(gpu, lines);
  AddRounding(gpu, lines);
  AddDevices(gpu, lines);
  AddFailures(gpu, lines);
  return lines;
}

}  // namespace ollamatrace
