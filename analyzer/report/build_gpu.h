// From a process's GPU history to what the report says of it.
#ifndef OLLAMATRACE_ANALYZER_REPORT_BUILD_GPU_H_
#define OLLAMATRACE_ANALYZER_REPORT_BUILD_GPU_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analyzer/replay/process_history.h"
#include "analyzer/report/report_gpu.h"

namespace ollamatrace {

// `seconds` turns a time of the trace into one of the report, `frames` a stack into frames.
ReportGpu MakeGpu(const ProcessHistory& history, const std::function<double(uint64_t)>& seconds,
                  const std::function<std::vector<uint32_t>(StackId)>& frames);

// What a reader has to know of the capture before believing the figures: one line. Empty: all is as
// it should be, or the process never loaded CUDA's driver.
std::string GpuNote(const ReportGpu& gpu);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_BUILD_GPU_H_
