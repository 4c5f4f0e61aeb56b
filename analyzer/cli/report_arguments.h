// The options that the verbs that make a report share.
#ifndef OLLAMATRACE_ANALYZER_CLI_REPORT_ARGUMENTS_H_
#define OLLAMATRACE_ANALYZER_CLI_REPORT_ARGUMENTS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "analyzer/cli/arguments.h"
#include "analyzer/cli/symbol_options.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/report/build_report.h"
#include "analyzer/report/renderers.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

enum class Format { kText, kJson };

struct ReportArguments {
  bool help = false;
  std::vector<std::string> paths;
  Format format = Format::kText;
  ReportQuery query;
  std::optional<uint64_t> top;  // as given; the default depends on the format
  bool progress = false;        // told on standard error even where that is no terminal
  std::string since;
  std::string until;
  SymbolizerOptions symbols = StandardSymbols();
  TextOptions text = TextOfTerminal();
};

// The options, which write to `arguments`: it has to outlive them.
std::vector<Option> ReportOptions(ReportArguments& arguments);

// InvalidArgument: what is wrong, in one line.
absl::Status ParseReportArguments(const std::vector<std::string>& words,
                                  ReportArguments& arguments);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_REPORT_ARGUMENTS_H_
