#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analyzer/gate/renderers.h"

namespace ollamatrace {
namespace {

constexpr size_t kFrames = 30;

// XML 1.0 has no control characters but tab and the ends of lines, not even escaped; what is no
// UTF-8 becomes "?".
std::string Xml(absl::string_view text) {
  std::string xml;
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = static_cast<unsigned char>(text[i]);
    size_t more = 0;
    if (c >= 0xf0 && c <= 0xf4) more = 3;
    if (c >= 0xe0 && c <= 0xef) more = 2;
    if (c >= 0xc2 && c <= 0xdf) more = 1;
    if (c >= 0x80) {
      bool whole = more > 0 && i + more < text.size();
      for (size_t j = 1; whole && j <= more; ++j) {
        whole = (static_cast<unsigned char>(text[i + j]) & 0xc0) == 0x80;
      }
      // Overlong forms, surrogates, U+FFFE and U+FFFF, and what lies beyond Unicode.
      const unsigned char next = whole ? static_cast<unsigned char>(text[i + 1]) : 0;
      if ((c == 0xe0 && next < 0xa0) || (c == 0xed && next > 0x9f) || (c == 0xf0 && next < 0x90) ||
          (c == 0xf4 && next > 0x8f) || (c == 0xef && next == 0xbf)) {
        whole = false;
      }
      if (!whole) {
        xml.push_back('?');
        continue;
      }
      absl::StrAppend(&xml, text.substr(i, more + 1));
      i += more;
      continue;
    }
    switch (c) {
      case '&':
        xml.append("&amp;");
        break;
      case '<':
        xml.append("&lt;");
        break;
      case '>':
        xml.append("&gt;");
        break;
      case '"':
        xml.append("&quot;");
        break;
      default:
        xml.push_back((c < 0x20 && c != '\n' && c != '\t') || c == 0x7f ? '?' : text[i]);
    }
  }
  return xml;
}

std::string Details(const CheckView& view, const CheckedBudget& budget) {
  std::string text = absl::StrCat(absl::StrJoin(budget.explanation, "\n"), "\n");
  for (const Culprit& culprit : budget.culprits) {
    const ReportGroup& group = view.report.groups[culprit.group];
    absl::StrAppend(&text, "\n", culprit.message, "\n  ",
                    absl::StrJoin(StackLines(view, group, kFrames), "\n  "), "\n");
    if (!group.advice.empty()) absl::StrAppend(&text, "  advice: ", group.advice, "\n");
  }
  return text;
}

}  // namespace

std::string CheckAsJunit(const CheckView& view) {
  const auto& budgets = view.result.budgets;
  const auto count = [&](Outcome outcome) {
    return std::count_if(budgets.begin(), budgets.end(),
                         [&](const CheckedBudget& one) { return one.outcome == outcome; });
  };
  const std::string counts = absl::StrFormat(
      "tests=\"%d\" failures=\"%d\" errors=\"0\" skipped=\"%d\" time=\"%.3f\"", budgets.size(),
      count(Outcome::kBroken), count(Outcome::kNotMeasured), view.report.duration);
  std::string xml = absl::StrCat(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites name=\"ollama-leakview\" ", counts,
      ">\n <testsuite name=\"", Xml(view.session), "\" ", counts, ">\n");
  for (const CheckedBudget& budget : budgets) {
    absl::StrAppend(&xml, "  <testcase classname=\"ollama-leakview.check\" name=\"", Xml(budget.id),
                    "\" time=\"0\"");
    // Which file a failure is of: the first culprit's.
    if (!budget.culprits.empty()) {
      const auto place = SourceOf(view, view.report.groups[budget.culprits.front().group]);
      if (place) {
        absl::StrAppend(&xml, " file=\"", Xml(place->file), "\" line=\"", place->line, "\"");
      }
    }
    absl::StrAppend(&xml, ">\n");
    if (budget.outcome == Outcome::kBroken) {
      absl::StrAppend(&xml, "   <failure type=\"budget\" message=\"",
                      Xml(absl::StrCat(budget.title, ": ", budget.message)), "\">",
                      Xml(Details(view, budget)), "</failure>\n");
    } else if (budget.outcome == Outcome::kNotMeasured) {
      absl::StrAppend(&xml, "   <skipped message=\"", Xml(budget.message), "\"/>\n");
    } else {
      absl::StrAppend(&xml, "   <system-out>",
                      Xml(absl::StrCat(budget.title, ": ", budget.message, "\n",
                                       absl::StrJoin(budget.explanation, "\n"))),
                      "</system-out>\n");
    }
    absl::StrAppend(&xml, "  </testcase>\n");
  }
  std::vector<std::string> notes = view.result.notes;
  if (view.result.score) notes.insert(notes.begin(), ScoreSentence(view.result));
  if (!notes.empty()) {
    absl::StrAppend(&xml, "  <system-out>", Xml(absl::StrJoin(notes, "\n")), "</system-out>\n");
  }
  absl::StrAppend(&xml, " </testsuite>\n</testsuites>\n");
  return xml;
}

}  // namespace ollamatrace
