// What `report` and `leaks` do alike.
#ifndef OLLAMATRACE_ANALYZER_CLI_RUN_REPORT_H_
#define OLLAMATRACE_ANALYZER_CLI_RUN_REPORT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "analyzer/cli/manual.h"
#include "analyzer/report/build_report.h"
#include "analyzer/report/renderers.h"

namespace ollamatrace {

using TextRenderer = void (*)(const Report&, const TextOptions&, const OutputSink&);

struct ReportVerb {
  Manual (*manual)() = nullptr;
  GroupOrder order = GroupOrder::kLiveBytes;
  TextRenderer render = nullptr;
  bool keep_layout = false;      // what it tells needs the blocks' places, as in LoadOptions
  uint64_t timeline_points = 0;  // as in ReportQuery, of text
};

// With the options that they all take.
Manual ManualWithReportOptions(absl::string_view help);

// Reads, builds, prints. Returns the program's exit code.
int RunReport(const std::vector<std::string>& words, const ReportVerb& verb);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_RUN_REPORT_H_
