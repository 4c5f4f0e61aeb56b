// What every test program says to its harness (test_programs.py), and how it fails.
//
// A program behaves the same with and without the library: it prints no pids, addresses or times.
// What only the tracer's harness needs goes to the file that the environment variable EXPECT_FILE
// names, one line a statement:
//
//   survivors PID FUNCTION BLOCKS BYTES    at the end of process PID, the live blocks whose stack
//   holds FUNCTION;
//                                          "any" for a figure that is not stated. Lines of one PID
//                                          and FUNCTION add up
//   processes COUNT                        at least so many traces are in the session
//   lossy REASON                           events may be lost (and must then be counted); figures
//   hold if none was
//
// Everything here is async-signal-safe and allocates nothing, so that it does not show in what is
// measured.
#ifndef OLLAMATRACE_TESTS_PROGRAMS_PROGRAM_H_
#define OLLAMATRACE_TESTS_PROGRAMS_PROGRAM_H_

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

// Functions that own survivors: a frame of their own, found by its name in the report.
#define PROGRAM_KEEPER extern "C" __attribute__((noinline, used, visibility("default")))

// Not assert(): no allocation, no atexit handlers, and also there with NDEBUG.
#define PROGRAM_CHECK(condition)                                                            \
  do {                                                                                      \
    if (!(condition)) ::ollamatrace::programs::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (0)

namespace ollamatrace::programs {

inline constexpr int kSkip = 77;
inline constexpr size_t kAny = ~size_t{0};

[[noreturn]] inline void CheckFailed(const char* file, int line, const char* condition) {
  char text[512];
  const int size = snprintf(text, sizeof text, "%s:%d: check failed: %s (errno %d)\n", file, line,
                            condition, errno);
  if (size > 0) (void)!write(2, text, static_cast<size_t>(size));
  _exit(99);
}

__attribute__((format(printf, 1, 2))) inline void Expect(const char* format, ...) {
  const char* const path = getenv("EXPECT_FILE");
  if (path == nullptr) return;
  const int saved_errno = errno;
  char line[512];
  va_list arguments;
  va_start(arguments, format);
  int size = vsnprintf(line, sizeof line - 1, format, arguments);
  va_end(arguments);
  if (size > 0 && size < static_cast<int>(sizeof line) - 1) {
    line[size++] = '\n';
    const int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    if (fd >= 0) {
      (void)!write(fd, line, static_cast<size_t>(size));
      close(fd);
    }
  }
  errno = saved_errno;
}

inline void ExpectSurvivors(const char* function, size_t blocks, size_t bytes) {
  char blocks_text[24] = "any";
  char bytes_text[24] = "any";
  if (blocks != kAny) snprintf(blocks_text, sizeof blocks_text, "%zu", blocks);
  if (bytes != kAny) snprintf(bytes_text, sizeof bytes_text, "%zu", bytes);
  Expect("survivors %d %s %s %s", static_cast<int>(getpid()), function, blocks_text, bytes_text);
}

inline void ExpectProcesses(int count) { Expect("processes %d", count); }
inline void ExpectLossy(const char* reason) { Expect("lossy %s", reason); }

// Keeps the compiler from seeing what becomes of a pointer, so that no allocation is optimised
// away.
template <typename T>
inline T* Opaque(T* pointer) {
  asm volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

}  // namespace ollamatrace::programs

#endif  // OLLAMATRACE_TESTS_PROGRAMS_PROGRAM_H_
