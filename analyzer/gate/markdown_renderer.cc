#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "analyzer/gate/renderers.h"

namespace ollamatrace {
namespace {

constexpr size_t kFrames = 12;

// In a cell or a sentence: nothing of it is markup.
std::string Plain(const std::string& text) {
  return absl::StrReplaceAll(text, {{"\\", "\\\\"},
                                    {"|", "\\|"},
                                    {"*", "\\*"},
                                    {"_", "\\_"},
                                    {"`", "\\`"},
                                    {"[", "\\["},
                                    {"<", "&lt;"},
                                    {">", "&gt;"},
                                    {"\n", " "},
                                    {"\r", " "}});
}

const char* Sign(Outcome outcome) {
  switch (outcome) {
    case Outcome::kKept:
      return ":white_check_mark:";
    case Outcome::kBroken:
      return ":x:";
    case Outcome::kNoWorse:
      return ":heavy_equals_sign:";
    case Outcome::kNotMeasured:
      break;
  }
  return ":grey_question:";
}

}  // namespace

std::string CheckAsMarkdown(const CheckView& view) {
  std::string text = absl::StrCat("## ", view.result.Broken() ? ":x:" : ":white_check_mark:",
                                  " Memory: ", Plain(CheckHeadline(view)), "\n\n");
  if (const std::string score = ScoreSentence(view.result); !score.empty()) {
    absl::StrAppend(&text, Plain(score), "\n\n");
  }
  absl::StrAppend(&text, "| | budget | found |\n|---|---|---|\n");
  for (const CheckedBudget& budget : view.result.budgets) {
    absl::StrAppend(&text, "| ", Sign(budget.outcome), " | ", Plain(budget.title), " | ",
                    Plain(budget.message));
    for (const std::string& line : budget.explanation) absl::StrAppend(&text, "<br>", Plain(line));
    absl::StrAppend(&text, " |\n");
  }
  for (const CheckedBudget& budget : view.result.budgets) {
    if (budget.culprits.empty()) continue;
    absl::StrAppend(&text, "\n### ", Plain(budget.title), "\n");
    for (const Culprit& culprit : budget.culprits) {
      const ReportGroup& group = view.report.groups[culprit.group];
      absl::StrAppend(&text, "\n", Plain(culprit.message), "\n\n```\n",
                      absl::StrReplaceAll(absl::StrJoin(StackLines(view, group, kFrames), "\n"),
                                          {{"```", "'''"}}),
                      "\n```\n");
      if (!group.advice.empty()) absl::StrAppend(&text, "\n", Plain(group.advice), "\n");
    }
  }
  if (!view.result.notes.empty()) text.push_back('\n');
  for (const std::string& note : view.result.notes) {
    absl::StrAppend(&text, "- ", Plain(note), "\n");
  }
  return text;
}

}  // namespace ollamatrace
