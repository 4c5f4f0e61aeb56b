// The GPU's part of a report as text.
#ifndef OLLAMATRACE_ANALYZER_REPORT_GPU_TEXT_H_
#define OLLAMATRACE_ANALYZER_REPORT_GPU_TEXT_H_

#include <string>
#include <vector>

#include "analyzer/report/report.h"

namespace ollamatrace {

// Lines; none for a process that has used no GPU.
std::vector<std::string> GpuText(const ReportProcess& process);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_GPU_TEXT_H_
