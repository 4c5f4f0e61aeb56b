// All verbs.
#ifndef OLLAMATRACE_ANALYZER_CLI_VERBS_H_
#define OLLAMATRACE_ANALYZER_CLI_VERBS_H_

#include <vector>

#include "absl/strings/string_view.h"
#include "analyzer/cli/manual.h"

namespace ollamatrace {

// The first one is meant where none is named.
const std::vector<Verb>& Verbs();

// Null when there is none of that name.
const Verb* FindVerb(absl::string_view name);

// Of the program without a verb.
Manual ProgramManual();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_VERBS_H_
