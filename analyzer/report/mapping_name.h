// What a mapping holds, as reports name it.
#ifndef OLLAMATRACE_ANALYZER_REPORT_MAPPING_NAME_H_
#define OLLAMATRACE_ANALYZER_REPORT_MAPPING_NAME_H_

#include "analyzer/replay/process_history.h"

namespace ollamatrace {

// "anonymous", "file", "reserved"; "" for other domains than kMapping.
inline const char* MappingName(Domain domain, MappingClass mapping) {
  if (domain != Domain::kMapping) return "";
  switch (mapping) {
    case MappingClass::kAnonymous:
      return "anonymous";
    case MappingClass::kFile:
      return "file";
    case MappingClass::kReserved:
      return "reserved";
  }
  return "";
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_MAPPING_NAME_H_
