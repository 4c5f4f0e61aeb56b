// What `report` and `leaks` do alike.
#ifndef OLLAMATRACE_ANALYZER_CLI_RUN_REPORT_H_
#define OLLAMATRACE_ANALYZER_CLI_RUN_REPORT_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "analyzer/report/build_report.h"
#include "analyzer/report/renderers.h"

namespace ollamatrace {

using TextRenderer = void (*)(const Report&, const TextOptions&, const OutputSink&);

// Reads, builds, prints. `help` comes before the list of options. Returns the program's exit code.
int RunReport(const std::vector<std::string>& words, absl::string_view help, GroupOrder order,
              TextRenderer render);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_RUN_REPORT_H_
