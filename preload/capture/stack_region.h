#ifndef OLLAMATRACE_PRELOAD_CAPTURE_STACK_REGION_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_STACK_REGION_H_

// Which memory around an address may be read (or executed). The slow path of the unwinder: a few system calls, raw, so that neither
// errno nor a hook of ours is touched; no allocation. Any stack will do: pthread, goroutine, coroutine, sigaltstack.

#include <cstdint>

namespace ollamatrace::capture {

struct MemoryRegion {
  uintptr_t begin = 0;
  uintptr_t end = 0;

  bool Contains(uintptr_t address) const { return address >= begin && address < end; }
};

// The readable mapping that holds `address`, joined with readable ones that directly follow it. For the main thread's stack, `begin`
// lies below what is mapped now, as far as the kernel will let it grow. Where /proc is closed to us, the bounds are
// felt out page by page upward (`begin` is then address's page). False when the address is not readable.
bool FindReadableRegion(uintptr_t address, MemoryRegion* region);

// Whether `address` is mapped executable; `region` is then the mapping. When /proc is closed: false.
bool FindExecutableRegion(uintptr_t address, MemoryRegion* region);

// Whether the eight bytes at `address` can be read. One system call.
bool IsReadable(uintptr_t address);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_STACK_REGION_H_
