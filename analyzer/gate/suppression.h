// Stacks that are known and forgiven.
#ifndef OLLAMATRACE_ANALYZER_GATE_SUPPRESSION_H_
#define OLLAMATRACE_ANALYZER_GATE_SUPPRESSION_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "analyzer/report/report.h"

namespace ollamatrace {

// A line of a file for LeakSanitizer: "leak:PATTERN". The pattern is looked for in the function,
// the file and the module of each frame: anywhere, with "*" for any characters, "^" for the
// beginning and "$" for the end
// (https://github.com/google/sanitizers/wiki/AddressSanitizerLeakSanitizer#suppressions).
// "leak:" forgives whatever the verdict is; a verdict in its place, "growth-per-request:PATTERN",
// forgives only stacks with that one.
struct Suppression {
  std::string verdict;  // empty: any
  std::string pattern;
  std::string text;  // the line
};

// InvalidArgument says what is wrong with it.
absl::StatusOr<Suppression> ParseSuppression(absl::string_view line);

// A file's lines; "#" begins a comment. InvalidArgument begins with `name` and the line.
absl::StatusOr<std::vector<Suppression>> ParseSuppressions(const std::string& name,
                                                           absl::string_view text);

bool PatternMatches(absl::string_view pattern, absl::string_view text);

bool Suppresses(const Suppression& suppression, const Report& report, const ReportGroup& group);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_GATE_SUPPRESSION_H_
