#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/gate/renderers.h"

namespace ollamatrace {
namespace {

constexpr size_t kFrames = 8;
constexpr size_t kAdviceWidth = 400;

// Control characters must not reach the terminal.
std::string Clean(std::string text) {
  for (char& c : text) {
    if ((static_cast<unsigned char>(c) < 0x20 && c != '\n') || c == 0x7f) c = '?';
  }
  return text;
}

const char* Sign(Outcome outcome) {
  switch (outcome) {
    case Outcome::kKept:
      return "ok";
    case Outcome::kBroken:
      return "BROKEN";
    case Outcome::kNoWorse:
      return "no worse";
    case Outcome::kNotMeasured:
      break;
  }
  return "-";
}

}  // namespace

std::string CheckAsText(const CheckView& view) {
  std::string text = absl::StrCat(CheckHeadline(view), "\n\n");
  for (const CheckedBudget& budget : view.result.budgets) {
    absl::StrAppendFormat(&text, "  %-9s %-32s %s\n", Sign(budget.outcome), budget.title,
                          budget.message);
    for (const std::string& line : budget.explanation) {
      absl::StrAppendFormat(&text, "  %-9s %-32s   %s\n", "", "", line);
    }
    for (const Culprit& culprit : budget.culprits) {
      const ReportGroup& group = view.report.groups[culprit.group];
      absl::StrAppend(&text, "            * ", culprit.message, "\n");
      for (const std::string& line : StackLines(view, group, kFrames)) {
        absl::StrAppend(&text, "                ", line, "\n");
      }
      if (!group.advice.empty()) {
        absl::StrAppend(&text, "              advice: ", group.advice.substr(0, kAdviceWidth),
                        "\n");
      }
    }
  }
  if (const std::string score = ScoreSentence(view.result); !score.empty()) {
    absl::StrAppend(&text, "\n", score, "\n");
  }
  bool first = true;
  for (const SuppressionUse& use : view.result.suppressions) {
    if (use.stacks == 0) continue;
    absl::StrAppend(&text, first ? "\nSuppressions used:\n" : "");
    absl::StrAppendFormat(&text, "  %6d stacks %12d bytes  %s\n", use.stacks, use.bytes, use.text);
    first = false;
  }
  for (const std::string& note : view.result.notes) absl::StrAppend(&text, "note: ", note, "\n");
  return Clean(std::move(text));
}

}  // namespace ollamatrace
