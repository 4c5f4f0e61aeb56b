#include "analyzer/gate/suppression.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "analyzer/diagnose/verdict.h"
#include "analyzer/text/nearest_word.h"

namespace ollamatrace {
namespace {

std::vector<std::string> Types() {
  std::vector<std::string> types;
  for (int verdict = 0; verdict <= static_cast<int>(Verdict::kLive); ++verdict) {
    types.emplace_back(VerdictName(static_cast<Verdict>(verdict)));
  }
  return types;  // "leak" among them
}

}  // namespace

absl::StatusOr<Suppression> ParseSuppression(absl::string_view line) {
  const size_t colon = line.find(':');
  if (colon == absl::string_view::npos) {
    return absl::InvalidArgumentError(
        absl::StrCat("\"", line, "\" is no suppression; write leak:PATTERN or VERDICT:PATTERN"));
  }
  Suppression suppression;
  suppression.text = std::string(line);
  const std::string type(line.substr(0, colon));
  const std::vector<std::string> types = Types();
  if (std::find(types.begin(), types.end(), type) == types.end()) {
    return absl::InvalidArgumentError(absl::StrCat("unknown type \"", type, "\"; did you mean \"",
                                                   NearestWord(type, types), "\"?"));
  }
  if (type != "leak") suppression.verdict = type;
  suppression.pattern = std::string(line.substr(colon + 1));
  if (suppression.pattern.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("\"", line, "\" has no pattern"));
  }
  return suppression;
}

absl::StatusOr<std::vector<Suppression>> ParseSuppressions(const std::string& name,
                                                           absl::string_view text) {
  std::vector<Suppression> suppressions;
  size_t number = 0;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    ++number;
    line = absl::StripAsciiWhitespace(line);
    if (line.empty() || line[0] == '#') continue;
    absl::StatusOr<Suppression> one = ParseSuppression(line);
    if (!one.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(name, ":", number, ": ", one.status().message()));
    }
    suppressions.push_back(*std::move(one));
  }
  return suppressions;
}

bool PatternMatches(absl::string_view pattern, absl::string_view text) {
  const bool from_begin = absl::ConsumePrefix(&pattern, "^");
  const bool to_end = absl::ConsumeSuffix(&pattern, "$");
  const std::vector<absl::string_view> parts = absl::StrSplit(pattern, '*');
  size_t at = 0;
  for (size_t i = 0; i < parts.size(); ++i) {
    const absl::string_view part = parts[i];
    if (i + 1 == parts.size() && to_end) {
      // The last part stands at the end, behind what is matched already.
      if (text.size() < at + part.size()) return false;
      const size_t end = text.size() - part.size();
      return text.substr(end) == part && (i > 0 || !from_begin || end == 0);
    }
    const size_t found = text.find(part, at);
    if (found == absl::string_view::npos || (i == 0 && from_begin && found != 0)) return false;
    at = found + part.size();
  }
  return true;
}

bool Suppresses(const Suppression& suppression, const Report& report, const ReportGroup& group) {
  if (!suppression.verdict.empty() && suppression.verdict != group.verdict) return false;
  return std::any_of(group.frames.begin(), group.frames.end(), [&](uint32_t index) {
    const ReportFrame& frame = report.frames[index];
    const auto matches = [&](const std::string& text) {
      return !text.empty() && PatternMatches(suppression.pattern, text);
    };
    return matches(frame.function) || matches(frame.file) || matches(frame.module);
  });
}

}  // namespace ollamatrace
