// The accounting and the fragmentation of a process as text.
#ifndef OLLAMATRACE_ANALYZER_REPORT_MEMORY_TEXT_H_
#define OLLAMATRACE_ANALYZER_REPORT_MEMORY_TEXT_H_

#include <string>
#include <vector>

#include "analyzer/report/report.h"

namespace ollamatrace {

// Lines without their ends. Control characters of names are replaced.

// A table whose rows add up to its last line, in bytes.
std::vector<std::string> AccountingText(const ReportProcess& process);

// A heap each, with its pages by how much of them is in use.
std::vector<std::string> HeapsText(const ReportProcess& process,
                                   const ReportFragmentation& fragmentation);

// "3.0 KiB in 12 blocks pin 40.1 MiB in 10,266 pages; freed, malloc_trim returns 40.1 MiB more".
std::string PinText(const ReportPin& pin);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_MEMORY_TEXT_H_
