// Phases, cycles and curves as JSON.
#ifndef OLLAMATRACE_ANALYZER_REPORT_TIMELINE_JSON_H_
#define OLLAMATRACE_ANALYZER_REPORT_TIMELINE_JSON_H_

#include "analyzer/report/report.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {

nlohmann::ordered_json CurveJson(const ReportCurve& curve);
// Only where the level changes: index into the moments, level, index, level, ...
nlohmann::ordered_json CurveChangesJson(const ReportCurve& curve);
nlohmann::ordered_json PhasesJson(const Report& report);
nlohmann::ordered_json CyclesJson(const Report& report);
nlohmann::ordered_json OrphansJson(const Report& report);
nlohmann::ordered_json TimelineJson(const Report& report);  // which has one

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_TIMELINE_JSON_H_
