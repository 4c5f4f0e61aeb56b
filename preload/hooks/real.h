#ifndef OLLAMATRACE_PRELOAD_HOOKS_REAL_H_
#define OLLAMATRACE_PRELOAD_HOOKS_REAL_H_

// The functions behind the hooks: the next ones in the search order (RTLD_NEXT), so that an
// allocator that was preloaded or linked stays in charge.

#include <malloc.h>
#include <stddef.h>
#include <stdint.h>

#include "preload/hooks/hook_list.h"
#include "preload/session/thread.h"

namespace ollamatrace {

struct RealFunctions {
#define OLLAMATRACE_REAL(result, name, parameters) result(*name) parameters;
  OLLAMATRACE_HOOKS(OLLAMATRACE_REAL)
#undef OLLAMATRACE_REAL
};

// A pointer is null before ResolveReal, and where there is no such function (free_sized, pvalloc).
extern __attribute__((visibility("hidden"))) RealFunctions g_real;

// Looks all of them up. dlsym may allocate: such calls find g_real.malloc still null and are served
// from the bootstrap pool. Any number of times, on any thread.
void ResolveReal();

// The real function, or nullptr while dlsym still looks for it and where there is none.
template <typename Function>
inline Function Real(Function RealFunctions::*function) {
  if (__builtin_expect(g_real.malloc == nullptr, 0) && t_thread.guard != kOwnWork) ResolveReal();
  return g_real.*function;
}

// Blocks given out while dlsym looked for the real functions, and for work of ours. Never given
// back. nullptr and ENOMEM when the pool is used up.
void* BootstrapAllocate(size_t size, size_t alignment);
extern __attribute__((visibility("hidden"))) char g_bootstrap_pool[];
inline constexpr size_t kBootstrapBytes = 1u << 20;
inline bool IsBootstrap(const void* block) {
  return reinterpret_cast<uintptr_t>(block) - reinterpret_cast<uintptr_t>(g_bootstrap_pool) <
         kBootstrapBytes;
}
// Of a bootstrap block; the size that was asked for.
size_t BootstrapSize(const void* block);

// glibc's mallinfo2 when malloc is glibc's, else nullptr.
using Mallinfo2Function = struct mallinfo2 (*)();
Mallinfo2Function RealMallinfo2();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_HOOKS_REAL_H_
