#ifndef OLLAMATRACE_PRELOAD_BASE_CLOCK_H_
#define OLLAMATRACE_PRELOAD_BASE_CLOCK_H_

// Time for events: ticks, cheap to read, turned into CLOCK_MONOTONIC nanoseconds by whoever drains.
// Ticks are the TSC (x86-64, when it is invariant), the virtual counter (aarch64), or nanoseconds.

#include <time.h>

#include <cstdint>

#include "preload/base/sys.h"

namespace ollamatrace {

// CLOCK_MONOTONIC in nanoseconds, by libc (the vdso: no system call where there is one).
inline uint64_t MonotonicNs() {
  struct timespec now;
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}
inline uint64_t RealtimeNs() {
  struct timespec now;
  ::clock_gettime(CLOCK_REALTIME, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}
// CPU time of the calling thread.
inline uint64_t ThreadCpuNs() {
  struct timespec now;
  if (sys::ClockGettime(CLOCK_THREAD_CPUTIME_ID, &now) != 0) return 0;
  return static_cast<uint64_t>(now.tv_sec) * 1000000000 + static_cast<uint64_t>(now.tv_nsec);
}

// Set once by InitTicks, before the first event.
extern bool g_ticks_are_cycles;

// Decides what a tick is. Reads CPUID and the kernel's choice of clock source, so that a TSC that
// the kernel distrusts is not trusted here either.
void InitTicks();

inline uint64_t ReadTicks() {
#if defined(__x86_64__)
  if (__builtin_expect(g_ticks_are_cycles, 1)) return __builtin_ia32_rdtsc();
#elif defined(__aarch64__)
  if (__builtin_expect(g_ticks_are_cycles, 1)) {
    uint64_t ticks;
    __asm__ volatile("mrs %0, cntvct_el0" : "=r"(ticks));
    return ticks;
  }
#endif
  return MonotonicNs();
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_BASE_CLOCK_H_
