// Manual pages, from what the verbs say of themselves.
#ifndef OLLAMATRACE_ANALYZER_CLI_MANUAL_PAGE_H_
#define OLLAMATRACE_ANALYZER_CLI_MANUAL_PAGE_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "analyzer/cli/manual.h"

namespace ollamatrace {

// Of man(7)'s macros; in section 1. `verb` null: the page of the program, which lists `verbs`.
std::string ManualPage(const Verb* verb, const Manual& manual, const std::vector<Verb>& verbs);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_MANUAL_PAGE_H_
