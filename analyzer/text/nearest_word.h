// The word that somebody probably meant.
#ifndef OLLAMATRACE_ANALYZER_TEXT_NEAREST_WORD_H_
#define OLLAMATRACE_ANALYZER_TEXT_NEAREST_WORD_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"

namespace ollamatrace {

// Of `words`, the first one that `word` is the beginning of; else the one with the fewest
// insertions, deletions and replacements (Levenshtein 1966), the first of those; "" of none. "_"
// and "-" count as the same.
std::string NearestWord(absl::string_view word, const std::vector<std::string>& words);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_TEXT_NEAREST_WORD_H_
