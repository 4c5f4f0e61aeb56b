// The accounting and the fragmentation as JSON.
#ifndef OLLAMATRACE_ANALYZER_REPORT_MEMORY_JSON_H_
#define OLLAMATRACE_ANALYZER_REPORT_MEMORY_JSON_H_

#include "analyzer/report/report.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {

// null where nothing is known.
nlohmann::ordered_json AccountingJson(const ReportMemory& memory);
nlohmann::ordered_json MappedFilesJson(const ReportMemory& memory);
// Frames are written out: an entry stands on its own.
nlohmann::ordered_json FragmentationJson(const Report& report);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_MEMORY_JSON_H_
