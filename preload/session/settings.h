#ifndef OLLAMATRACE_PRELOAD_SESSION_SETTINGS_H_
#define OLLAMATRACE_PRELOAD_SESSION_SETTINGS_H_

// What the environment asks for. A value that makes no sense is ignored, with the reason kept for
// the trace.

#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace {

// Plain data, static.
struct Settings {
  const char* folder = nullptr;     // OLLAMATRACE_DIR; nullptr: the default
  const char* temporary = nullptr;  // TMPDIR; nullptr: /tmp
  const char* unwinder = nullptr;   // OLLAMATRACE_UNWINDER
  const char* cupti = nullptr;      // OLLAMATRACE_CUPTI: nullptr (auto), "off", or a path
  Mode mode = Mode::kSurvivors;     // OLLAMATRACE_MODE
  uint64_t sample_bytes = 0;        // of mode sample: the mean distance; 0 in all others
  // OLLAMATRACE_MAX_BYTES, of all files of the trace together; 0: no limit.
  uint64_t max_bytes = uint64_t{1} << 30;
  int depth = 128;                     // OLLAMATRACE_DEPTH, frames
  uint64_t sample_ns = 1'000'000'000;  // OLLAMATRACE_SAMPLE_MS; 0: no samples
  bool traced = true;                  // OLLAMATRACE_ONLY names this program, or is not set
  char complaints[1024] = {};          // a line each, "" when there is nothing to complain about
};

// Reads `environment` (as environ). `exe` is the name of the program, without folders. Texts stay
// where they are: the environment must outlive the settings, or not be changed while they are used.
void ReadSettings(char* const* environment, const char* exe, Settings* settings);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_SESSION_SETTINGS_H_
