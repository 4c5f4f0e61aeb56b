// Colours of a terminal.
#ifndef OLLAMATRACE_ANALYZER_TEXT_PAINT_H_
#define OLLAMATRACE_ANALYZER_TEXT_PAINT_H_

#include <string>

#include "absl/strings/string_view.h"

namespace ollamatrace {

enum class Ink { kPlain, kStrong, kFaint, kBad, kWarning, kGood };

// `text` with the escape sequences around it (ECMA-48, SGR); as it is where `colour` is false or
// there is nothing to paint.
std::string Paint(bool colour, Ink ink, absl::string_view text);

// Of a verdict's name, as VerdictName says.
Ink InkOfVerdict(absl::string_view verdict);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_TEXT_PAINT_H_
