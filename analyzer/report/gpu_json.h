// The GPU's part of a report as JSON.
#ifndef OLLAMATRACE_ANALYZER_REPORT_GPU_JSON_H_
#define OLLAMATRACE_ANALYZER_REPORT_GPU_JSON_H_

#include "analyzer/report/report.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {

nlohmann::ordered_json GpuLedgersJson(const ReportGpu& gpu);
// What NVML has seen.
nlohmann::ordered_json GpuDevicesJson(const ReportGpu& gpu);
// What became of the capture, and the calls that failed.
nlohmann::ordered_json GpuCaptureJson(const ReportGpu& gpu);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_GPU_JSON_H_
