#include "analyzer/export/export_names.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ollamatrace {
namespace {

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

}  // namespace

std::string ExportProcessName(const Report& report, const ReportGroup& group) {
  const ReportProcess& first = report.processes[group.processes.front()];
  return group.processes.size() == 1 ? absl::StrCat(first.name, " [", first.pid, "]") : first.name;
}

std::string ExportFrameName(const ReportFrame& frame) {
  if (!frame.function.empty()) return frame.function;
  if (frame.module.empty()) return absl::StrFormat("0x%x", frame.offset);
  return absl::StrFormat("%s+0x%x", BaseName(frame.module), frame.offset);
}

uint64_t ExportWeight(const ReportGroup& group, ExportMetric metric) {
  switch (metric) {
    case ExportMetric::kLiveBytes:
      return group.live_bytes;
    case ExportMetric::kLiveBlocks:
      return group.live_blocks;
    case ExportMetric::kPeakBytes:
      return group.peak_bytes;
    case ExportMetric::kGrowthBytes:
      return static_cast<uint64_t>(std::max<int64_t>(group.growth_bytes, 0));
    case ExportMetric::kAllocatedBytes:
      return group.allocated_bytes;
    case ExportMetric::kAllocations:
      return group.allocations;
  }
  return 0;
}

const char* ExportMetricName(ExportMetric metric) {
  switch (metric) {
    case ExportMetric::kLiveBytes:
      return "live_bytes";
    case ExportMetric::kLiveBlocks:
      return "live_blocks";
    case ExportMetric::kPeakBytes:
      return "peak_bytes";
    case ExportMetric::kGrowthBytes:
      return "growth_bytes";
    case ExportMetric::kAllocatedBytes:
      return "allocated_bytes";
    case ExportMetric::kAllocations:
      return "allocations";
  }
  return "";
}

}  // namespace ollamatrace
