#include "preload/session/settings.h"

#include "formats/byte_count.h"
#include "formats/sample_weight.h"
#include "preload/base/text.h"
#include "preload/drain/drain.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kMaxTraceLimit = uint64_t{1} << 60;
constexpr uint64_t kMaxSampleMs = 24 * 3600 * 1000;

// The value when `entry` is "name=value", else nullptr.
const char* ValueOf(const char* entry, const char* name) {
  while (*name != '\0' && *entry == *name) ++entry, ++name;
  return *name == '\0' && *entry == '=' ? entry + 1 : nullptr;
}

class Complaints {
 public:
  explicit Complaints(Settings* settings)
      : text_(settings->complaints, sizeof settings->complaints) {}
  void Add(const char* name, const char* value, const char* instead) {
    text_.Put(name).Put('=');
    for (int i = 0; value[i] != '\0' && i < 64; ++i) {
      text_.Put(value[i] < ' ' || value[i] > '~' ? '?' : value[i]);
    }
    text_.Put(" is ignored: ").Put(instead).Put('\n');
  }

 private:
  TextWriter text_;
};

bool InList(const char* list, const char* name) {
  while (*list != '\0') {
    const char* end = list;
    while (*end != '\0' && *end != ',') ++end;
    const auto size = static_cast<size_t>(end - list);
    if (size == TextLength(name)) {
      size_t same = 0;
      while (same < size && list[same] == name[same]) ++same;
      if (same == size) return true;
    }
    list = *end == ',' ? end + 1 : end;
  }
  return false;
}

}  // namespace

void ReadSettings(char* const* environment, const char* exe, Settings* settings) {
  Complaints complaints(settings);
  for (; environment != nullptr && *environment != nullptr; ++environment) {
    const char* const entry = *environment;
    const char* value = nullptr;
    uint64_t number = 0;
    if ((value = ValueOf(entry, "TMPDIR")) != nullptr) {
      if (value[0] == '/') settings->temporary = value;
    } else if ((value = ValueOf(entry, "OLLAMATRACE_DIR")) != nullptr) {
      if (value[0] != '\0') settings->folder = value;
    } else if ((value = ValueOf(entry, "OLLAMATRACE_MODE")) != nullptr) {
      if (TextEquals(value, "full")) {
        settings->mode = Mode::kFull;
      } else if (ParseSampleMode(value, TextLength(value), &number)) {
        settings->mode = Mode::kSample;
        settings->sample_bytes = number;
      } else if (!TextEquals(value, "survivors") && value[0] != '\0') {
        complaints.Add(
            "OLLAMATRACE_MODE", value,
            "the modes are survivors (used now), full, and sample:BYTES, with 1 to 1024G "
            "bytes, like sample:512K");
      }
    } else if ((value = ValueOf(entry, "OLLAMATRACE_MAX_BYTES")) != nullptr) {
      if (ParseByteCount(value, TextLength(value), kMaxTraceLimit, &number) &&
          (number == 0 || number >= kMinTraceBytes)) {
        settings->max_bytes = number;
      } else if (value[0] != '\0') {
        complaints.Add(
            "OLLAMATRACE_MAX_BYTES", value,
            "bytes are expected, at least 256K, as in 512M or 1G (used now), or 0 for no "
            "limit");
      }
    } else if ((value = ValueOf(entry, "OLLAMATRACE_DEPTH")) != nullptr) {
      if (ParseNumber(value, TextLength(value), &number) && number >= 1 &&
          number <= kMaxStackDepth) {
        settings->depth = static_cast<int>(number);
      } else if (value[0] != '\0') {
        complaints.Add("OLLAMATRACE_DEPTH", value, "a number of frames from 1 to 512 is expected");
      }
    } else if ((value = ValueOf(entry, "OLLAMATRACE_SAMPLE_MS")) != nullptr) {
      if (ParseNumber(value, TextLength(value), &number) && number <= kMaxSampleMs) {
        settings->sample_ns = number * 1'000'000;
      } else if (value[0] != '\0') {
        complaints.Add("OLLAMATRACE_SAMPLE_MS", value,
                       "milliseconds are expected, 0 for no samples");
      }
    } else if ((value = ValueOf(entry, "OLLAMATRACE_UNWINDER")) != nullptr) {
      settings->unwinder = value;
    } else if ((value = ValueOf(entry, "OLLAMATRACE_CUPTI")) != nullptr) {
      if (TextEquals(value, "off") || value[0] == '/') {
        settings->cupti = value;
      } else if (!TextEquals(value, "auto") && value[0] != '\0') {
        complaints.Add("OLLAMATRACE_CUPTI", value,
                       "auto, off or the absolute path of a libcupti.so is expected");
      }
    } else if ((value = ValueOf(entry, "OLLAMATRACE_ONLY")) != nullptr) {
      settings->traced = value[0] == '\0' || InList(value, exe);
    }
  }
}

}  // namespace ollamatrace
