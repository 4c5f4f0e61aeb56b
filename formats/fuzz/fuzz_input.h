// Takes values from the front of a fuzz target's input; zeros when it is used up.
#ifndef OLLAMATRACE_FORMATS_FUZZ_FUZZ_INPUT_H_
#define OLLAMATRACE_FORMATS_FUZZ_FUZZ_INPUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "absl/strings/string_view.h"

namespace ollamatrace {

class FuzzInput {
 public:
  explicit FuzzInput(absl::string_view bytes) : bytes_(bytes) {}

  bool empty() const { return bytes_.empty(); }
  uint8_t Byte() { return static_cast<uint8_t>(Number(1)); }
  uint64_t Number(size_t bytes) {
    uint64_t value = 0;
    for (size_t i = 0; i < bytes && !bytes_.empty(); ++i) {
      value |= uint64_t{static_cast<uint8_t>(bytes_[0])} << (8 * i);
      bytes_.remove_prefix(1);
    }
    return value;
  }
  absl::string_view Bytes(size_t size) {
    const absl::string_view taken = bytes_.substr(0, size);
    bytes_.remove_prefix(taken.size());
    return taken;
  }

 private:
  absl::string_view bytes_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_FUZZ_FUZZ_INPUT_H_
