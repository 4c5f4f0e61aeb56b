// Figures for people.
#ifndef OLLAMATRACE_ANALYZER_TEXT_UNITS_H_
#define OLLAMATRACE_ANALYZER_TEXT_UNITS_H_

#include <cstdint>
#include <string>

namespace ollamatrace {

std::string FormatBytes(double bytes);    // "512 B", "8.0 KiB", "-1.2 MiB"
std::string FormatCount(uint64_t count);  // "1,234,567"
std::string FormatSeconds(
    double seconds);  // "0.25 s", "12.3 s", "2 min 5 s", "3 h 12 min", "2 d 4 h"

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_TEXT_UNITS_H_
