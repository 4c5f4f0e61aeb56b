// The shells' completion, from what the verbs say of themselves.
#ifndef OLLAMATRACE_ANALYZER_CLI_COMPLETION_H_
#define OLLAMATRACE_ANALYZER_CLI_COMPLETION_H_

#include <string>
#include <vector>

#include "analyzer/cli/manual.h"

namespace ollamatrace {

// Scripts that make the shell complete ollama-leakview's verbs, options and their values. Without a
// verb the options are those of the first of `verbs`.
std::string BashCompletion(const std::vector<Verb>& verbs);
std::string ZshCompletion(const std::vector<Verb>& verbs);
std::string FishCompletion(const std::vector<Verb>& verbs);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_COMPLETION_H_
