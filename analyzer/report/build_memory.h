// From where a process's memory was to what the report says of it.
#ifndef OLLAMATRACE_ANALYZER_REPORT_BUILD_MEMORY_H_
#define OLLAMATRACE_ANALYZER_REPORT_BUILD_MEMORY_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analyzer/diagnose/accounting.h"
#include "analyzer/diagnose/fragmentation.h"
#include "analyzer/report/report_memory.h"

namespace ollamatrace {

// A stack as the report has it.
struct NamedStack {
  std::vector<uint32_t> frames;
  size_t blamed_frame = 0;
  std::string name;  // of the blamed frame, with its place
};
// Of a key of ProcessHistory::layout_keys, or kNoKey.
using StackNamer = std::function<NamedStack(uint32_t key)>;

// `at`: the moment, as the report tells times.
ReportAccounting MakeAccounting(const Accounting& accounting, double at, const StackNamer& name);
// `process`: its index in the report.
ReportFragmentation MakeFragmentation(const Fragmentation& fragmentation, size_t process, double at,
                                      const StackNamer& name);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_BUILD_MEMORY_H_
