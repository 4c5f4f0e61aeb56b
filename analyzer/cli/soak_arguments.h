// The options of `soak`.
#ifndef OLLAMATRACE_ANALYZER_CLI_SOAK_ARGUMENTS_H_
#define OLLAMATRACE_ANALYZER_CLI_SOAK_ARGUMENTS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "analyzer/cli/arguments.h"
#include "analyzer/cli/check_arguments.h"
#include "analyzer/soak/soak.h"

namespace ollamatrace {

struct SoakArguments {
  bool help = false;
  SoakOptions soak;  // but for what starts the server
  std::vector<std::string> command;
  bool run_check = true;
  std::string mode;  // OLLAMATRACE_MODE
  CheckArguments check;

  // As given; FinishSoakArguments puts them into `soak.plan`.
  std::string plan_file;
  std::string prompt_file;
  StandardPhases phases;
  bool phases_given = false;
};

// The options, which write to `arguments`: it has to outlive them.
std::vector<Option> SoakOptionTable(SoakArguments& arguments);

// InvalidArgument: what is wrong or contradicts itself, in one line.
absl::Status ParseSoakArguments(const std::vector<std::string>& words, SoakArguments& arguments);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_SOAK_ARGUMENTS_H_
