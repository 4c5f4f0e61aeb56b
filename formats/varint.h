// Variable-length integers: seven bits a byte, least significant group first, the top bit set on
// all bytes but the last.
//
// Header only, no dependencies: the injected library and the reader share it.
#ifndef OLLAMATRACE_FORMATS_VARINT_H_
#define OLLAMATRACE_FORMATS_VARINT_H_

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

// The longest varint: 64 bits in groups of seven.
inline constexpr size_t kMaxVarintBytes = 10;
// The longest varint of a value below 2^32, and of the zigzag form of a difference of two such
// values.
inline constexpr size_t kMaxVarint32Bytes = 5;

// Writes `value` at `out` (room for kMaxVarintBytes) and returns the place after it.
inline uint8_t* PutVarint(uint8_t* out, uint64_t value) {
  while (value >= 0x80) {
    *out++ = static_cast<uint8_t>(value) | 0x80;
    value >>= 7;
  }
  *out++ = static_cast<uint8_t>(value);
  return out;
}

// Reads a varint from [*in, end) and moves *in behind it. False, with *in unchanged, when the bytes
// end within it or it does not fit 64 bits.
inline bool GetVarint(const uint8_t** in, const uint8_t* end, uint64_t* value) {
  const uint8_t* p = *in;
  uint64_t result = 0;
  for (unsigned shift = 0; shift < 64; shift += 7) {
    if (p == end) return false;
    const uint8_t byte = *p++;
    if (shift == 63 && byte > 1) return false;
    result |= static_cast<uint64_t>(byte & 0x7f) << shift;
    if (byte < 0x80) {
      *in = p;
      *value = result;
      return true;
    }
  }
  return false;
}

// Differences of 64-bit values wrap: `to - from` of any two values has a zigzag form, and small
// ones have a short one.
inline constexpr uint64_t ZigZag(uint64_t difference) {
  return (difference << 1) ^ (uint64_t{0} - (difference >> 63));
}
inline constexpr uint64_t UnZigZag(uint64_t value) {
  return (value >> 1) ^ (uint64_t{0} - (value & 1));
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_VARINT_H_
