#include "analyzer/load/marks.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {

Marks ParseMarks(absl::string_view text) {
  Marks result;
  for (absl::string_view line : absl::StrSplit(text, '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    const nlohmann::json value = nlohmann::json::parse(line.begin(), line.end(), nullptr,
                                                       /*allow_exceptions=*/false);
    const auto bad = [&] { ++result.bad_lines; };
    if (!value.is_object()) {
      bad();
      continue;
    }
    const auto time = value.find("t");
    const auto name = value.find("mark");
    if (time == value.end() || name == value.end() || !time->is_number_unsigned() ||
        !name->is_string()) {
      bad();
      continue;
    }
    result.marks.push_back({time->get<uint64_t>(), name->get<std::string>()});
  }
  std::stable_sort(result.marks.begin(), result.marks.end(),
                   [](const Mark& a, const Mark& b) { return a.time_ns < b.time_ns; });
  return result;
}

const Mark* FindMark(const std::vector<Mark>& marks, absl::string_view reference) {
  int64_t wanted = 1;
  const size_t hash = reference.rfind('#');
  if (hash != absl::string_view::npos) {
    int64_t number = 0;
    if (absl::SimpleAtoi(reference.substr(hash + 1), &number) && number != 0) {
      wanted = number;
      reference = reference.substr(0, hash);
    }
  }
  std::vector<const Mark*> found;
  for (const Mark& mark : marks) {
    if (mark.name == reference) found.push_back(&mark);
  }
  const int64_t count = static_cast<int64_t>(found.size());
  const int64_t index = wanted > 0 ? wanted - 1 : count + wanted;
  return index >= 0 && index < count ? found[static_cast<size_t>(index)] : nullptr;
}

}  // namespace ollamatrace
