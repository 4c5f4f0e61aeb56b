// Numbers of bytes as settings give them. No allocation, no library.
#ifndef OLLAMATRACE_FORMATS_BYTE_COUNT_H_
#define OLLAMATRACE_FORMATS_BYTE_COUNT_H_

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

// Whether [text, text + size) is a decimal number, which K, M or G, or a small one of these,
// multiplies by 2^10, 2^20, 2^30, and the result is at most `most`.
inline bool ParseByteCount(const char* text, size_t size, uint64_t most, uint64_t* bytes) {
  uint64_t number = 0;
  size_t i = 0;
  for (; i < size && text[i] >= '0' && text[i] <= '9'; ++i) {
    const uint64_t digit = static_cast<uint64_t>(text[i] - '0');
    if (number > (most - digit) / 10) return false;
    number = number * 10 + digit;
  }
  if (i == 0) return false;
  unsigned shift = 0;
  if (i + 1 == size) {
    switch (text[i++] | 0x20) {
      case 'k':
        shift = 10;
        break;
      case 'm':
        shift = 20;
        break;
      case 'g':
        shift = 30;
        break;
      default:
        return false;
    }
  }
  if (i != size || number > most >> shift) return false;
  *bytes = number << shift;
  return true;
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_BYTE_COUNT_H_
