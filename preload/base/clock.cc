#include "preload/base/clock.h"

#if defined(__x86_64__)
#include <cpuid.h>
#endif

namespace ollamatrace {

bool g_ticks_are_cycles = false;

void InitTicks() {
#if defined(__x86_64__)
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid(0x80000007, &a, &b, &c, &d) == 0 || (d & (1u << 8)) == 0) return;
  char source[16] = {};
  const long fd = sys::Open("/sys/devices/system/clocksource/clocksource0/current_clocksource",
                            O_RDONLY | O_CLOEXEC);
  if (sys::Failed(fd)) {
    g_ticks_are_cycles = true;  // no /sys: the CPU's word alone
    return;
  }
  sys::Read(static_cast<int>(fd), source, sizeof source - 1);
  sys::Close(static_cast<int>(fd));
  // kvm-clock and Hyper-V's page clock are built upon the TSC.
  g_ticks_are_cycles = (source[0] == 't' && source[1] == 's' && source[2] == 'c') ||
                       (source[0] == 'k' && source[1] == 'v' && source[2] == 'm') ||
                       (source[0] == 'h' && source[1] == 'y' && source[2] == 'p');
#elif defined(__aarch64__)
  g_ticks_are_cycles = true;
#endif
}

}  // namespace ollamatrace
