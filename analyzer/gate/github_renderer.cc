#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "analyzer/gate/renderers.h"

namespace ollamatrace {
namespace {

constexpr size_t kFrames = 12;

// https://docs.github.com/actions: "Workflow commands"; the escapes are those of its toolkit
// (packages/core/src/command.ts).
std::string Data(const std::string& text) {
  return absl::StrReplaceAll(text, {{"%", "%25"}, {"\r", "%0D"}, {"\n", "%0A"}});
}
std::string Property(const std::string& text) {
  return absl::StrReplaceAll(
      text, {{"%", "%25"}, {"\r", "%0D"}, {"\n", "%0A"}, {":", "%3A"}, {",", "%2C"}});
}

}  // namespace

std::string CheckAsGithub(const CheckView& view) {
  std::string text;
  for (const CheckedBudget& budget : view.result.budgets) {
    if (budget.outcome != Outcome::kBroken) continue;
    for (const Culprit& culprit : budget.culprits) {
      const ReportGroup& group = view.report.groups[culprit.group];
      absl::StrAppend(&text, "::error ");
      if (const auto place = SourceOf(view, group)) {
        absl::StrAppend(&text, "file=", Property(place->file), ",line=", place->line, ",");
      }
      absl::StrAppend(&text, "title=", Property(absl::StrCat("memory: ", budget.title)), "::",
                      Data(absl::StrCat(culprit.message, "\n",
                                        absl::StrJoin(StackLines(view, group, kFrames), "\n"),
                                        group.advice.empty() ? "" : "\n", group.advice)),
                      "\n");
    }
    if (budget.culprits.empty()) {
      absl::StrAppend(
          &text, "::error title=", Property(absl::StrCat("memory: ", budget.title)),
          "::", Data(absl::StrCat(budget.message, "\n", absl::StrJoin(budget.explanation, "\n"))),
          "\n");
    }
  }
  for (const std::string& note : view.result.notes) {
    absl::StrAppend(&text, "::notice title=memory::", Data(note), "\n");
  }
  absl::StrAppend(&text,
                  view.result.Broken() ? "" : "::notice title=memory::", Data(CheckHeadline(view)),
                  "\n");
  return text;
}

}  // namespace ollamatrace
