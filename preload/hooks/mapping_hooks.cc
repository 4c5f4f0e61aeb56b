// The mmap family, brk and sbrk, and dlclose. Only what the program calls itself is seen: glibc
// maps thread stacks and malloc's arenas by calls of its own.

#include <dlfcn.h>
#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#include "preload/base/sys.h"
#include "preload/capture/modules.h"
#include "preload/hooks/real.h"
#include "preload/hooks/record.h"

namespace ollamatrace {
namespace {

// Before the real functions are known, and where there is none: the system call.
template <typename Result>
Result FromKernel(long result) {
  if (!sys::Failed(result)) return (Result)result;
  errno = static_cast<int>(-result);
  return (Result)-1;
}

void* RealMmap(void* address, size_t length, int protection, int flags, int fd, off_t offset) {
  if (auto* const real = Real(&RealFunctions::mmap)) {
    return real(address, length, protection, flags, fd, offset);
  }
  return FromKernel<void*>(sys::Call(__NR_mmap, sys::Arg(address), static_cast<long>(length),
                                     protection, flags, fd, offset));
}

int RealMunmap(void* address, size_t length) {
  if (auto* const real = Real(&RealFunctions::munmap)) return real(address, length);
  return FromKernel<int>(sys::Munmap(address, length));
}

void* RealMremap(void* address, size_t old_length, size_t length, int flags, void* target) {
  if (auto* const real = Real(&RealFunctions::mremap)) {
    return real(address, old_length, length, flags, target);
  }
  return FromKernel<void*>(sys::Call(__NR_mremap, sys::Arg(address), static_cast<long>(old_length),
                                     static_cast<long>(length), flags, sys::Arg(target)));
}

size_t WholePages(size_t length) {
  static const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  const size_t rounded = (length + page - 1) & ~(page - 1);
  return rounded < length ? length : rounded;
}

uint8_t MapAttributes(int protection, int flags) {
  const bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
  const bool anonymous = (flags & MAP_ANONYMOUS) != 0;
  const uint8_t kind = anonymous ? (shared ? kMapSharedAnonymous : kMapAnonymous)
                                 : (shared ? kMapFileShared : kMapFilePrivate);
  return static_cast<uint8_t>((protection & 7) | ((flags & MAP_FIXED) != 0 ? kMapFixed : 0) |
                              kind << 4);
}

// The break as the program sees it.
char* CurrentBreak() {
  auto* const real = Real(&RealFunctions::sbrk);
  return real == nullptr ? nullptr : static_cast<char*>(real(0));
}

constexpr uint8_t kBreakAttributes = PROT_READ | PROT_WRITE | kMapAnonymous << 4;

}  // namespace
}  // namespace ollamatrace

using namespace ollamatrace;  // NOLINT: the hooks are C functions

#define OLLAMATRACE_MMAP_HOOK(name, offset_type)                                               \
  OLLAMATRACE_HOOK void* name(void* address, size_t length, int protection, int flags, int fd, \
                              offset_type offset) {                                            \
    if (!OLLAMATRACE_ENTER_MAPPING()) {                                                        \
      return RealMmap(address, length, protection, flags, fd, offset);                         \
    }                                                                                          \
    void* const mapping = RealMmap(address, length, protection, flags, fd, offset);            \
    if (mapping != MAP_FAILED) {                                                               \
      RecordMap(mapping, WholePages(length), AllocFunction::kMmap,                             \
                MapAttributes(protection, flags), OLLAMATRACE_CALLER_FRAME());                 \
    }                                                                                          \
    Leave();                                                                                   \
    return mapping;                                                                            \
  }
OLLAMATRACE_MMAP_HOOK(mmap, off_t)
OLLAMATRACE_MMAP_HOOK(mmap64, off64_t)

OLLAMATRACE_HOOK int munmap(void* address, size_t length) {
  if (!OLLAMATRACE_ENTER_MAPPING()) return RealMunmap(address, length);
  RecordUnmap(address, WholePages(length));
  const int result = RealMunmap(address, length);
  if (result != 0) RecordUnmapFailed(address, WholePages(length));
  Leave();
  return result;
}

OLLAMATRACE_HOOK void* mremap(void* address, size_t old_length, size_t length, int flags, ...) {
  void* target = nullptr;
  if ((flags & (MREMAP_FIXED | MREMAP_DONTUNMAP)) != 0) {
    va_list arguments;
    va_start(arguments, flags);
    target = va_arg(arguments, void*);
    va_end(arguments);
  }
  if (!OLLAMATRACE_ENTER_MAPPING()) return RealMremap(address, old_length, length, flags, target);
  // Length 0 makes a second mapping of shared pages; MREMAP_DONTUNMAP leaves the old range mapped.
  const bool moves = old_length != 0 && (flags & MREMAP_DONTUNMAP) == 0;
  if (moves) RecordUnmap(address, WholePages(old_length));
  void* const mapping = RealMremap(address, old_length, length, flags, target);
  if (mapping != MAP_FAILED) {
    RecordMap(
        mapping, WholePages(length), AllocFunction::kMremap,
        MapAttributes(PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | ((flags & MREMAP_FIXED) != 0 ? MAP_FIXED : 0)),
        OLLAMATRACE_CALLER_FRAME());
  } else if (moves) {
    RecordUnmapFailed(address, WholePages(old_length));
  }
  Leave();
  return mapping;
}

OLLAMATRACE_HOOK int brk(void* end) {
  auto* const real = Real(&RealFunctions::brk);
  if (real == nullptr) {
    errno = ENOMEM;
    return -1;
  }
  if (!OLLAMATRACE_ENTER_MAPPING()) return real(end);
  char* const before = CurrentBreak();
  char* const after = static_cast<char*>(end);
  const bool shrinks = after < before;
  if (shrinks) RecordUnmap(after, static_cast<size_t>(before - after));
  const int result = real(end);
  if (result == 0 && after > before) {
    RecordMap(before, static_cast<size_t>(after - before), AllocFunction::kBrk, kBreakAttributes,
              OLLAMATRACE_CALLER_FRAME());
  } else if (result != 0 && shrinks) {
    RecordUnmapFailed(after, static_cast<size_t>(before - after));
  }
  Leave();
  return result;
}

OLLAMATRACE_HOOK void* sbrk(intptr_t increment) {
  auto* const real = Real(&RealFunctions::sbrk);
  if (real == nullptr) {
    errno = ENOMEM;
    return reinterpret_cast<void*>(-1);
  }
  if (increment == 0 || !OLLAMATRACE_ENTER_MAPPING()) return real(increment);
  const bool shrinks = increment < 0;
  const size_t bytes = shrinks ? static_cast<size_t>(-increment) : static_cast<size_t>(increment);
  char* const gone = shrinks ? CurrentBreak() - bytes : nullptr;
  if (shrinks) RecordUnmap(gone, bytes);
  void* const before = real(increment);
  if (before == reinterpret_cast<void*>(-1)) {
    if (shrinks) RecordUnmapFailed(gone, bytes);
  } else if (!shrinks) {
    RecordMap(before, bytes, AllocFunction::kBrk, kBreakAttributes, OLLAMATRACE_CALLER_FRAME());
  }
  Leave();
  return before;
}

// Not recorded: what it unloads must be noticed before its addresses are used again.
OLLAMATRACE_HOOK int dlclose(void* handle) {
  auto* const real = Real(&RealFunctions::dlclose);
  if (real == nullptr) return -1;
  const int result = real(handle);
  if (GateIsOpen() && t_thread.guard == kIdle) {
    const int saved_errno = errno;
    const OwnWork own;
    RefreshModules();
    errno = saved_errno;
  }
  return result;
}
