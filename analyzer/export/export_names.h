// Names and weights that the exporters share.
#ifndef OLLAMATRACE_ANALYZER_EXPORT_EXPORT_NAMES_H_
#define OLLAMATRACE_ANALYZER_EXPORT_EXPORT_NAMES_H_

#include <cstdint>
#include <string>

#include "analyzer/export/exporters.h"
#include "analyzer/report/report.h"

namespace ollamatrace {

// "server [100]"; of a group of several processes "server".
std::string ExportProcessName(const Report& report, const ReportGroup& group);

// The function, or "libfoo.so+0x1234".
std::string ExportFrameName(const ReportFrame& frame);

// Never negative: a group that shrank has no growth.
uint64_t ExportWeight(const ReportGroup& group, ExportMetric metric);

// "live_bytes", ...
const char* ExportMetricName(ExportMetric metric);

inline bool IsBytes(ExportMetric metric) {
  return metric != ExportMetric::kLiveBlocks && metric != ExportMetric::kAllocations;
}

inline constexpr ExportMetric kExportMetrics[] = {
    ExportMetric::kLiveBytes,   ExportMetric::kLiveBlocks,     ExportMetric::kPeakBytes,
    ExportMetric::kGrowthBytes, ExportMetric::kAllocatedBytes, ExportMetric::kAllocations};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_EXPORT_EXPORT_NAMES_H_
