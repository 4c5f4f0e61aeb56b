// Phases, cycles and curves as lines of text.
#ifndef OLLAMATRACE_ANALYZER_REPORT_TIMELINE_TEXT_H_
#define OLLAMATRACE_ANALYZER_REPORT_TIMELINE_TEXT_H_

#include <functional>
#include <string>
#include <vector>

#include "analyzer/report/report.h"

namespace ollamatrace {

// One column for each point: eight heights from nothing to `most`, "." for nothing at all, a blank
// where nothing is known.
std::string Sparkline(const ReportCurve& curve, double most);

// Phases, load cycles and orphans; nothing when there are none.
std::vector<std::string> CyclesText(const Report& report);

// The curves; `label` says in a few words what a group is.
std::vector<std::string> TimelineText(const Report& report,
                                      const std::function<std::string(const ReportGroup&)>& label);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_TIMELINE_TEXT_H_
