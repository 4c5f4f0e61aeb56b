// Any bytes give marks, in order of time, and any reference finds one of them or none.
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"
#include "analyzer/load/marks.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const absl::string_view text(reinterpret_cast<const char*>(data), size);
  const ollamatrace::Marks marks = ollamatrace::ParseMarks(text);
  uint64_t before = 0;
  for (const ollamatrace::Mark& mark : marks.marks) {
    if (mark.time_ns < before) __builtin_trap();
    before = mark.time_ns;
    if (ollamatrace::FindMark(marks.marks, mark.name) == nullptr) __builtin_trap();
  }
  (void)ollamatrace::FindMark(marks.marks, text.substr(0, 64));
  return 0;
}
