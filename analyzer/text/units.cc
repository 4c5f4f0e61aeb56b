#include "analyzer/text/units.h"

#include <cmath>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"

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

absl::Status ParseBytes(absl::string_view text, uint64_t& bytes) {
  double unit = 1;
  absl::string_view number = text;
  const size_t end = number.find_first_not_of("0123456789.");
  if (end != absl::string_view::npos) {
    const std::string suffix = absl::AsciiStrToUpper(number.substr(end));
    number = number.substr(0, end);
    static constexpr absl::string_view kLetters = "KMGT";
    const size_t letter = kLetters.find(suffix[0]);
    const absl::string_view more = absl::string_view(suffix).substr(1);
    if (suffix == "B") {
      unit = 1;
    } else if (letter != absl::string_view::npos && (more.empty() || more == "B" || more == "IB")) {
      unit = std::pow(1024.0, static_cast<double>(letter) + 1);
    } else {
      number = "";
    }
  }
  double value = 0;
  if (!absl::SimpleAtod(number, &value) || value < 0 || value * unit > 9e18) {
    return absl::InvalidArgumentError("not a size; give bytes, or 64K, 1M, 2G");
  }
  bytes = static_cast<uint64_t>(std::llround(value * unit));
  return absl::OkStatus();
}

absl::Status ParseSeconds(absl::string_view text, double& seconds) {
  struct Unit {
    absl::string_view name;
    double seconds;
  };
  // The longer names first: each is looked for at the end.
  static constexpr Unit kUnits[] = {{"ms", 1e-3}, {"min", 60}, {"s", 1},
                                    {"m", 60},    {"h", 3600}, {"d", 86400}};
  absl::string_view number = text;
  double unit = 1;
  for (const Unit& one : kUnits) {
    if (!absl::ConsumeSuffix(&number, one.name)) continue;
    unit = one.seconds;
    break;
  }
  double value = 0;
  if (number.find_first_not_of("0123456789.") != absl::string_view::npos ||
      !absl::SimpleAtod(number, &value)) {
    return absl::InvalidArgumentError("not a time; give 90s, 5min, 1.5h or 3d");
  }
  seconds = value * unit;
  return absl::OkStatus();
}

}  // namespace ollamatrace
