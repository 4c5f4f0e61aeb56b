// What the result of a check looks like.
#ifndef OLLAMATRACE_ANALYZER_GATE_RENDERERS_H_
#define OLLAMATRACE_ANALYZER_GATE_RENDERERS_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "analyzer/gate/check.h"
#include "analyzer/report/report.h"

namespace ollamatrace {

struct CheckView {
  const CheckResult& result;
  const Report& report;     // the one that was checked
  std::string session;      // its path, as it was given
  std::string source_root;  // files below it are named relative to it
  std::string version;      // of this program
};

// Each is a whole document. Names come from the traced program: what would break a document is
// replaced.
std::string CheckAsText(const CheckView& view);
std::string CheckAsMarkdown(const CheckView& view);
// As Jenkins and GitLab read it: a test case for each budget.
std::string CheckAsJunit(const CheckView& view);
// SARIF 2.1.0 (OASIS): a result for each culprit, or for the budget where none is known.
std::string CheckAsSarif(const CheckView& view);
// Workflow commands of GitHub Actions: "::error file=...,line=...::...".
std::string CheckAsGithub(const CheckView& view);
// Schema "ollama-leakview/check/1".
std::string CheckAsJson(const CheckView& view);

struct CheckFormat {
  const char* name;
  std::string (*render)(const CheckView& view);
};
// nullptr: there is no such format.
const CheckFormat* FindCheckFormat(absl::string_view name);
std::vector<std::string> CheckFormatNames();

// ---- What they share.

struct SourcePlace {
  std::string file;  // relative to the root when below it
  bool relative = false;
  uint32_t line = 0;
};
// The frame to look at, or the next one outwards whose file is known.
std::optional<SourcePlace> SourceOf(const CheckView& view, const ReportGroup& group);

// "2 of 10 budgets are broken (ollamatrace/, 240 requests, 12.0 s)".
std::string CheckHeadline(const CheckView& view);
// "score: good: 31.0 % of 12.0 MiB were kept (phase steady)"; "" without a score.
std::string ScoreSentence(const CheckResult& result);
// "app::Copy leak.cc:7 (server)", innermost first, without plumbing inside of the blamed frame; at
// most `most`.
std::vector<std::string> StackLines(const CheckView& view, const ReportGroup& group, size_t most);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_GATE_RENDERERS_H_
