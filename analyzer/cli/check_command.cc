#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/check_arguments.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/run_check.h"
#include "analyzer/cli/terminal.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview check [OPTION...] PATH...\n"
    "\n"
    "Holds a session against budgets: what breaks one is named with its function, file and line. "
    "Figures by request need\n"
    "marks (`soak` writes them). What stops growing by itself, a cache that fills, does not count "
    "and is told.\n"
    "Sizes: 64K, 1M, 2G; times: 90s, 5min; \"off\" switches a budget off. How each is measured: "
    "analyzer/gate/BUDGETS.md.\n"
    "Exit code 0: all budgets kept; 1: one is broken; 2: usage; 3: input that cannot be read.\n"
    "\n"
    "Example: ollama-leakview check --budget=budget.yaml --write=junit=memory.xml "
    "--write=sarif=memory.sarif ollamatrace/\n";

std::vector<Option> Options(CheckArguments& arguments, bool& help) {
  std::vector<Option> options = CheckOptions(arguments);
  options.push_back({"-h, --help", "", "this text", [&](absl::string_view) {
                       help = true;
                       return absl::OkStatus();
                     }});
  return options;
}

}  // namespace

Manual CheckManual() {
  CheckArguments defaults;
  bool help = false;
  return MakeManual(kHelp, Options(defaults, help));
}

int CheckCommand(const std::vector<std::string>& words) {
  CheckArguments arguments;
  bool help = false;
  std::vector<std::string> paths;
  absl::Status status =
      ParseArguments(words, Options(arguments, help), /*stop_at_positional=*/false, paths);
  if (status.ok() && help) return PrintHelp(CheckManual());
  if (status.ok() && paths.empty()) {
    status =
        absl::InvalidArgumentError("no trace given; name a trace or a session folder (see --help)");
  }
  if (status.ok()) status = FinishCheckArguments(paths, arguments);
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  StandardOutput output;
  const int exit_code = RunCheck(paths, arguments, output);
  if (status = output.Finish(); !status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  return exit_code;
}

}  // namespace ollamatrace
