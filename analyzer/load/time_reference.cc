#include "analyzer/load/time_reference.h"

#include <set>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/strip.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

std::string ListOfMarks(const std::vector<Mark>& marks) {
  constexpr size_t kShown = 12;
  std::set<std::string> names;
  for (const Mark& mark : marks) names.insert(mark.label.empty() ? mark.name : mark.label);
  if (names.empty()) return "the session has no marks (marks.jsonl)";
  const size_t all = names.size();
  while (names.size() > kShown) names.erase(std::prev(names.end()));
  return absl::StrCat("its marks are ", absl::StrJoin(names, ", "), all > kShown ? ", ..." : "");
}

}  // namespace

absl::StatusOr<uint64_t> ResolveTime(absl::string_view reference, uint64_t session_start_ns,
                                     const std::vector<Mark>& marks) {
  absl::string_view time = reference;
  absl::ConsumePrefix(&time, "+");
  double seconds = 0;
  if (ParseSeconds(time, seconds).ok()) {
    const double room = static_cast<double>(~session_start_ns);
    if (seconds * 1e9 >= room) return ~uint64_t{0};
    return session_start_ns + static_cast<uint64_t>(seconds * 1e9);
  }
  const Mark* mark = FindMark(marks, reference);
  if (mark != nullptr) return mark->time_ns;
  return absl::InvalidArgumentError(absl::StrCat(
      "\"", reference, "\" is neither a time (90s, 10m, 1.5h) nor a mark of this session; ",
      ListOfMarks(marks)));
}

}  // namespace ollamatrace
