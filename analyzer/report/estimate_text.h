// Mode sample: estimates for people.
#ifndef OLLAMATRACE_ANALYZER_REPORT_ESTIMATE_TEXT_H_
#define OLLAMATRACE_ANALYZER_REPORT_ESTIMATE_TEXT_H_

#include <cstdint>
#include <string>

#include "analyzer/report/report.h"

namespace ollamatrace {

// "41.2 MiB +- 1.3 MiB in 120 +- 4.1 blocks, estimated from 82 sampled ones". What follows +- is
// one standard error.
std::string EstimateText(uint64_t live_bytes, uint64_t live_blocks, const ReportErrors& errors);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_ESTIMATE_TEXT_H_
