// Command lines of the benchmarks' programs: --name=value, numbers and choices.
#ifndef OLLAMATRACE_TESTS_BENCH_OPTIONS_H_
#define OLLAMATRACE_TESTS_BENCH_OPTIONS_H_

#include <cerrno>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace ollamatrace::bench {

// Whether `argument` is `name` (with its '=') and a decimal number within [least, most], which goes
// to `value`.
inline bool NumberOption(const char* argument, const char* name, uint64_t least, uint64_t most,
                         uint64_t* value) {
  const size_t length = strlen(name);
  if (strncmp(argument, name, length) != 0) return false;
  const char* const digits = argument + length;
  if (*digits < '0' || *digits > '9') return false;
  char* end = nullptr;
  errno = 0;
  const uint64_t number = strtoull(digits, &end, 10);
  if (errno != 0 || *end != '\0' || number < least || number > most) return false;
  *value = number;
  return true;
}

// Whether `argument` is one of the two texts; `value` becomes the one that belongs to it.
template <typename T>
bool ChoiceOption(const char* argument, const char* first_text, const char* second_text, T* value,
                  T first, T second) {
  const bool is_first = strcmp(argument, first_text) == 0;
  if (!is_first && strcmp(argument, second_text) != 0) return false;
  *value = is_first ? first : second;
  return true;
}

}  // namespace ollamatrace::bench

#endif  // OLLAMATRACE_TESTS_BENCH_OPTIONS_H_
