#include "analyzer/text/nearest_word.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace ollamatrace {
namespace {

bool Same(char x, char y) { return (x == '_' ? '-' : x) == (y == '_' ? '-' : y); }

size_t Distance(absl::string_view a, absl::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  std::iota(row.begin(), row.end(), size_t{0});
  for (size_t i = 0; i < a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i + 1;
    for (size_t j = 0; j < b.size(); ++j) {
      const size_t replaced = diagonal + (Same(a[i], b[j]) ? 0 : 1);
      diagonal = row[j + 1];
      row[j + 1] = std::min({replaced, row[j + 1] + 1, row[j] + 1});
    }
  }
  return row.back();
}

}  // namespace

std::string NearestWord(absl::string_view word, const std::vector<std::string>& words) {
  word = word.substr(0, 100);  // from a file; the cost is quadratic
  const auto longer = std::find_if(words.begin(), words.end(), [&](const std::string& one) {
    return !word.empty() && one.size() >= word.size() &&
           std::equal(word.begin(), word.end(), one.begin(), Same);
  });
  if (longer != words.end()) return *longer;
  const auto nearest =
      std::min_element(words.begin(), words.end(), [&](const std::string& a, const std::string& b) {
        return Distance(word, a) < Distance(word, b);
      });
  return nearest == words.end() ? "" : *nearest;
}

}  // namespace ollamatrace
