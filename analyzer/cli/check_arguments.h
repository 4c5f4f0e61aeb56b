// The options of `check`, which `soak` takes too.
#ifndef OLLAMATRACE_ANALYZER_CLI_CHECK_ARGUMENTS_H_
#define OLLAMATRACE_ANALYZER_CLI_CHECK_ARGUMENTS_H_

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "analyzer/cli/arguments.h"
#include "analyzer/gate/budget.h"
#include "analyzer/gate/renderers.h"
#include "analyzer/gate/suppression.h"
#include "analyzer/cli/symbol_options.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

struct CheckArguments {
  std::string budget_file;
  std::string suppressions_file;
  std::string baseline;
  std::string source_root;  // the current folder unless it is given
  const CheckFormat* format = FindCheckFormat("text");
  std::vector<std::pair<const CheckFormat*, std::string>> writes;  // and the files
  std::vector<std::string> processes;                              // as in ReportQuery
  SymbolizerOptions symbols = StandardSymbols();
  std::map<std::string, std::string> flags;  // budgets as they were given: name, value

  // Made of all this by FinishCheckArguments.
  Budgets budgets;
  std::vector<Suppression> suppressions;
};

// The options, which write to `arguments`: it has to outlive them.
std::vector<Option> CheckOptions(CheckArguments& arguments);

// Reads the files that were named. InvalidArgument: what is wrong or contradicts itself, in one
// line.
absl::Status FinishCheckArguments(const std::vector<std::string>& paths, CheckArguments& arguments);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_CHECK_ARGUMENTS_H_
