// Figures for people.
#ifndef OLLAMATRACE_ANALYZER_TEXT_UNITS_H_
#define OLLAMATRACE_ANALYZER_TEXT_UNITS_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {

std::string FormatBytes(double bytes);    // "512 B", "8.0 KiB", "-1.2 MiB"
std::string FormatCount(uint64_t count);  // "1,234,567"
std::string FormatSeconds(
    double seconds);  // "0.25 s", "12.3 s", "2 min 5 s", "3 h 12 min", "2 d 4 h"

// "4096", "64K", "1M", "2G", "1.5MiB": bytes; K, M and G are powers of 1024. InvalidArgument
// otherwise.
absl::Status ParseBytes(absl::string_view text, uint64_t& bytes);

// "90", "90s", "250ms", "5m", "5min", "1.5h", "3d". InvalidArgument otherwise.
absl::Status ParseSeconds(absl::string_view text, double& seconds);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_TEXT_UNITS_H_
