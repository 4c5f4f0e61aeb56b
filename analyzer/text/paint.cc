#include "analyzer/text/paint.h"

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

// The terminal's own sixteen colours: they fit light and dark backgrounds as their owner set them.
absl::string_view Sequence(Ink ink) {
  switch (ink) {
    case Ink::kStrong:
      return "\x1b[1m";
    case Ink::kFaint:
      return "\x1b[2m";
    case Ink::kBad:
      return "\x1b[1;31m";
    case Ink::kWarning:
      return "\x1b[33m";
    case Ink::kGood:
      return "\x1b[32m";
    case Ink::kPlain:
      break;
  }
  return "";
}

}  // namespace

std::string Paint(bool colour, Ink ink, absl::string_view text) {
  const absl::string_view sequence = Sequence(ink);
  if (!colour || sequence.empty() || text.empty()) return std::string(text);
  return absl::StrCat(sequence, text, "\x1b[0m");
}

Ink InkOfVerdict(absl::string_view verdict) {
  if (verdict == "leak" || verdict == "growth-per-request") return Ink::kBad;
  if (verdict == "retained-after-unload" || verdict == "high-water") return Ink::kWarning;
  if (verdict == "cache" || verdict == "one-time") return Ink::kGood;
  return Ink::kStrong;
}

}  // namespace ollamatrace
