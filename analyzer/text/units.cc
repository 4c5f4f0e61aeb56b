#include "analyzer/text/units.h"

#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ollamatrace {

std::string FormatBytes(double bytes) {
  static constexpr const char* kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  const char* sign = bytes < 0 ? "-" : "";
  double value = std::abs(bytes);
  size_t unit = 0;
  // 1023.95 would be printed as 1024.0.
  while (value >= (unit == 0 ? 1023.5 : 1023.95) && unit + 1 < std::size(kUnits)) {
    value /= 1024;
    ++unit;
  }
  if (unit == 0 && (value == std::floor(value) || value >= 100)) {
    return absl::StrFormat("%s%.0f B", sign, value);
  }
  return absl::StrFormat("%s%.1f %s", sign, value, kUnits[unit]);
}

std::string FormatCount(uint64_t count) {
  const std::string digits = absl::StrCat(count);
  std::string text;
  for (size_t i = 0; i < digits.size(); ++i) {
    if (i > 0 && (digits.size() - i) % 3 == 0) text.push_back(',');
    text.push_back(digits[i]);
  }
  return text;
}

std::string FormatSeconds(double seconds) {
  if (seconds < 9.995) return absl::StrFormat("%.2f s", seconds);
  if (seconds < 119.95) return absl::StrFormat("%.1f s", seconds);
  if (seconds > 1e15) return "long";
  const uint64_t whole = static_cast<uint64_t>(std::llround(seconds));
  if (whole < 3600) return absl::StrFormat("%d min %d s", whole / 60, whole % 60);
  if (whole < 172800) return absl::StrFormat("%d h %d min", whole / 3600, whole % 3600 / 60);
  return absl::StrFormat("%d d %d h", whole / 86400, whole % 86400 / 3600);
}

}  // namespace ollamatrace
