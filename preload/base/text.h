#ifndef OLLAMATRACE_PRELOAD_BASE_TEXT_H_
#define OLLAMATRACE_PRELOAD_BASE_TEXT_H_

// Bounded text on the caller's memory, without libc: safe before libc is ready, in a signal handler
// and in a child after fork. What does not fit is cut; the text is always ended by NUL.

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

inline size_t TextLength(const char* text) {
  size_t length = 0;
  while (text[length] != '\0') ++length;
  return length;
}

inline bool TextEquals(const char* a, const char* b) {
  while (*a != '\0' && *a == *b) ++a, ++b;
  return *a == *b;
}

// The part behind the last slash.
inline const char* BaseName(const char* path) {
  const char* base = path;
  for (; *path != '\0'; ++path) {
    if (*path == '/') base = path + 1;
  }
  return base;
}

class TextWriter {
 public:
  TextWriter(char* out, size_t capacity) : out_(out), capacity_(capacity) {
    if (capacity_ > 0) out_[0] = '\0';
  }
  TextWriter& Put(char c) {
    if (size_ + 1 < capacity_) {
      out_[size_++] = c;
      out_[size_] = '\0';
    } else {
      cut_ = true;
    }
    return *this;
  }
  TextWriter& Put(const char* text) {
    while (*text != '\0') Put(*text++);
    return *this;
  }
  TextWriter& Put(const char* text, size_t size) {
    for (size_t i = 0; i < size; ++i) Put(text[i]);
    return *this;
  }
  TextWriter& Number(uint64_t value, unsigned base = 10) {
    char digits[24];
    int count = 0;
    do {
      digits[count++] = "0123456789abcdef"[value % base];
      value /= base;
    } while (value != 0);
    while (count > 0) Put(digits[--count]);
    return *this;
  }
  size_t size() const { return size_; }
  bool cut() const { return cut_; }

 private:
  char* out_;
  size_t capacity_;
  size_t size_ = 0;
  bool cut_ = false;
};

// A decimal number that fills [text, text + size). False for an empty text, another
// character, or a value over 2^64 - 1.
inline bool ParseNumber(const char* text, size_t size, uint64_t* out) {
  if (size == 0) return false;
  uint64_t value = 0;
  for (size_t i = 0; i < size; ++i) {
    if (text[i] < '0' || text[i] > '9') return false;
    const uint64_t digit = static_cast<uint64_t>(text[i] - '0');
    if (value > (UINT64_MAX - digit) / 10) return false;
    value = value * 10 + digit;
  }
  *out = value;
  return true;
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_BASE_TEXT_H_
