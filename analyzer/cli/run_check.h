// What `check` does, and `soak` at its end.
#ifndef OLLAMATRACE_ANALYZER_CLI_RUN_CHECK_H_
#define OLLAMATRACE_ANALYZER_CLI_RUN_CHECK_H_

#include <string>
#include <vector>

#include "analyzer/cli/check_arguments.h"
#include "analyzer/cli/terminal.h"

namespace ollamatrace {

// Reads the session (and the baseline), checks, renders, writes the files that were asked for.
// `arguments` are finished. Errors are printed. Returns the program's exit code.
int RunCheck(const std::vector<std::string>& paths, const CheckArguments& arguments,
             StandardOutput& output);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_RUN_CHECK_H_
