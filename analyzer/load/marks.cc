#include "analyzer/load/marks.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

std::optional<Mark> ParseMark(absl::string_view line) {
  const nlohmann::json value =
      nlohmann::json::parse(line.begin(), line.end(), nullptr, /*allow_exceptions=*/false);
  if (!value.is_object()) return std::nullopt;
  const auto time = value.find("t");
  const auto name = value.find("mark");
  if (time == value.end() || name == value.end() || !time->is_number_unsigned() ||
      !name->is_string()) {
    return std::nullopt;
  }
  Mark mark{.time_ns = time->get<uint64_t>(), .name = name->get<std::string>()};
  const auto label = value.find("name");
  if (label != value.end() && label->is_string()) mark.label = label->get<std::string>();
  const auto tokens = value.find("tokens");
  if (tokens != value.end() && tokens->is_number_unsigned()) mark.tokens = tokens->get<uint64_t>();
  return mark;
}

}  // namespace

Marks ParseMarks(absl::string_view text) {
  Marks result;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    std::optional<Mark> mark = ParseMark(line);
    if (mark) {
      result.marks.push_back(*std::move(mark));
    } else {
      ++result.bad_lines;
    }
  }
  std::stable_sort(result.marks.begin(), result.marks.end(),
                   [](const Mark& a, const Mark& b) { return a.time_ns < b.time_ns; });
  return result;
}

const Mark* FindMark(const std::vector<Mark>& marks, absl::string_view reference) {
  const auto matches = [](const Mark& mark, absl::string_view name) {
    return mark.name == name || (!mark.label.empty() && mark.label == name);
  };
  for (const Mark& mark : marks) {
    if (matches(mark, reference)) return &mark;
  }
  const size_t hash = reference.rfind('#');
  int64_t number = 0;
  if (hash == absl::string_view::npos || !absl::SimpleAtoi(reference.substr(hash + 1), &number)) {
    return nullptr;
  }
  std::vector<const Mark*> found;
  for (const Mark& mark : marks) {
    if (matches(mark, reference.substr(0, hash))) found.push_back(&mark);
  }
  const int64_t count = static_cast<int64_t>(found.size());
  const int64_t index = number > 0 ? number - 1 : count + number;
  return number != 0 && index >= 0 && index < count ? found[static_cast<size_t>(index)] : nullptr;
}

}  // namespace ollamatrace
