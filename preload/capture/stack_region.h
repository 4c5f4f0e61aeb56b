#ifndef OLLAMATRACE_PRELOAD_CAPTURE_STACK_REGION_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_STACK_REGION_H_

// Which memory may be read, and which is executable. The slow path of the unwinder: a few system
// calls, raw, so that neither errno nor a hook of ours is touched; no allocation.

#include <cstdint>

namespace ollamatrace::capture {

// Pages are looked at in this size: the smallest one. Where pages are larger, some are looked at
// twice.
inline constexpr uintptr_t kPageBytes = 4096;
inline constexpr uintptr_t PageOf(uintptr_t address) { return address & ~(kPageBytes - 1); }

struct MemoryRegion {
  uintptr_t begin = 0;
  uintptr_t end = 0;

  bool Contains(uintptr_t address) const { return address >= begin && address < end; }
};

// How far memory is readable from `begin` (the start of a page) on, as far as `limit`: the first
// page that is not, or `limit` rounded up to a page. `begin` itself means: not at all. One system
// call a page.
uintptr_t ReadableUpTo(uintptr_t begin, uintptr_t limit);

// Whether `address` is mapped executable; `region` is then the mapping. When /proc is closed:
// false.
bool FindExecutableRegion(uintptr_t address, MemoryRegion* region);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_STACK_REGION_H_
