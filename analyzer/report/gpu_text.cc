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
  lines.push_back(absl::StrCat("GPU memory of ", Clean(process.name), " [", process.pid,
                               "]: ", Bytes(gpu.live_bytes), " live; capture ", gpu.capture,
                               gpu.where.empty() ? "" : absl::StrCat(" by ", Clean(gpu.where))));
  if (!gpu.ledgers.empty()) AddLedgers(gpu, lines);
  AddVirtual(gpu, lines);
  AddFailures(gpu, lines);
  return lines;
}

}  // namespace ollamatrace
