#include "analyzer/gate/renderers.h"

#include <algorithm>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/text/function_name.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr CheckFormat kFormats[] = {{"text", CheckAsText},     {"markdown", CheckAsMarkdown},
                                    {"junit", CheckAsJunit},   {"sarif", CheckAsSarif},
                                    {"github", CheckAsGithub}, {"json", CheckAsJson}};

SourcePlace PlaceIn(const CheckView& view, const ReportFrame& frame) {
  SourcePlace place{frame.file, false, frame.line};
  std::string root = view.source_root;
  if (!root.empty() && root.back() != '/') root.push_back('/');
  if (!root.empty() && absl::StartsWith(place.file, root)) place.file.erase(0, root.size());
  place.relative = !absl::StartsWith(place.file, "/");
  return place;
}

}  // namespace

const CheckFormat* FindCheckFormat(absl::string_view name) {
  for (const CheckFormat& format : kFormats) {
    if (name == format.name) return &format;
  }
  return nullptr;
}

std::vector<std::string> CheckFormatNames() {
  std::vector<std::string> names;
  for (const CheckFormat& format : kFormats) names.emplace_back(format.name);
  return names;
}

std::optional<SourcePlace> SourceOf(const CheckView& view, const ReportGroup& group) {
  for (size_t i = group.blamed_frame; i < group.frames.size(); ++i) {
    const ReportFrame& frame = view.report.frames[group.frames[i]];
    if (!frame.file.empty() && frame.line > 0) return PlaceIn(view, frame);
  }
  return std::nullopt;
}

std::string CheckHeadline(const CheckView& view) {
  const auto& budgets = view.result.budgets;
  const auto count = [&](Outcome outcome) {
    return std::count_if(budgets.begin(), budgets.end(),
                         [&](const CheckedBudget& one) { return one.outcome == outcome; });
  };
  const auto broken = count(Outcome::kBroken);
  const auto measured = static_cast<std::ptrdiff_t>(budgets.size()) - count(Outcome::kNotMeasured);
  return absl::StrCat(broken == 0 ? "none" : absl::StrCat(broken), " of ", measured,
                      " measured budgets ", broken <= 1 ? "is" : "are", " broken (", view.session,
                      ", ", FormatCount(view.report.requests), " requests, ",
                      FormatSeconds(view.report.duration), ")");
}

std::string ScoreSentence(const CheckResult& result) {
  if (!result.score) return "";
  const Score& score = *result.score;
  return absl::StrFormat("score: %s: %.1f %% of %s at the peak were kept (%s)", score.grade,
                         score.share * 100, FormatBytes(score.peak_growth_bytes), score.of);
}

std::vector<std::string> StackLines(const CheckView& view, const ReportGroup& group, size_t most) {
  std::vector<std::string> lines;
  for (size_t i = group.blamed_frame; i < group.frames.size() && lines.size() < most; ++i) {
    const ReportFrame& frame = view.report.frames[group.frames[i]];
    std::string line = i == group.blamed_frame ? "> " : "  ";  // as in the report
    absl::StrAppend(&line, frame.function.empty() ? absl::StrCat("0x", absl::Hex(frame.offset))
                                                  : ShortFunction(frame.function, 100));
    if (!frame.file.empty()) {
      absl::StrAppend(&line, " ", PlaceIn(view, frame).file, ":", frame.line);
    }
    if (!frame.module.empty()) {
      absl::StrAppend(&line, " (", frame.module.substr(frame.module.rfind('/') + 1), ")");
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace ollamatrace
