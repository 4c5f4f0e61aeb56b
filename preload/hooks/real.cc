#include "preload/hooks/real.h"

#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include <atomic>

#include "preload/capture/modules.h"
#include "preload/hooks/sampling.h"
#include "preload/session/thread.h"

namespace ollamatrace {

RealFunctions g_real;
alignas(16) char g_bootstrap_pool[kBootstrapBytes];

namespace {

std::atomic<size_t> g_bootstrap_used{0};

// Looked up with the others: a later dlsym would clear what the target's dlerror is to say.
Mallinfo2Function g_mallinfo2 = nullptr;

// Before each block: its size, in 16 bytes, so that blocks stay aligned.
constexpr size_t kBootstrapHeader = 16;

template <typename Function>
void Find(Function** real, const char* name) {
  if (void* const found = dlsym(RTLD_NEXT, name)) memcpy(real, &found, sizeof found);
}

}  // namespace

void ResolveReal() {
  const int saved_errno = errno;
  const OwnWork own;
  RealFunctions real = {};
#define OLLAMATRACE_FIND(result, name, parameters) Find(&real.name, #name);
  OLLAMATRACE_HOOKS(OLLAMATRACE_FIND)
#undef OLLAMATRACE_FIND
  Find(&g_mallinfo2, "mallinfo2");
  g_real = real;
  errno = saved_errno;
}

void* BootstrapAllocate(size_t size, size_t alignment) {
  if (alignment < kBootstrapHeader) alignment = kBootstrapHeader;
  if (size > kBootstrapBytes || alignment > 4096) {
    errno = ENOMEM;
    return nullptr;
  }
  const size_t reserve = kBootstrapHeader + alignment + ((size + 15) & ~size_t{15});
  const size_t start = g_bootstrap_used.fetch_add(reserve, std::memory_order_relaxed);
  if (start > kBootstrapBytes || reserve > kBootstrapBytes - start) {
    g_bootstrap_used.fetch_sub(reserve, std::memory_order_relaxed);
    errno = ENOMEM;
    return nullptr;
  }
  auto block = reinterpret_cast<uintptr_t>(g_bootstrap_pool) + start + kBootstrapHeader;
  block = (block + alignment - 1) & ~(alignment - 1);
  memcpy(reinterpret_cast<char*>(block) - kBootstrapHeader, &size, sizeof size);
  // free looks whose block it is where it may be one of sampling's.
  g_sampled_blocks.Suspect(reinterpret_cast<void*>(block));
  return reinterpret_cast<void*>(block);
}

size_t BootstrapSize(const void* block) {
  size_t size;
  memcpy(&size, static_cast<const char*>(block) - kBootstrapHeader, sizeof size);
  return size;
}

Mallinfo2Function RealMallinfo2() {
  if (g_mallinfo2 == nullptr || g_real.malloc == nullptr) return nullptr;
  // glibc's describes glibc's heap, which another allocator leaves empty.
  return FindModuleId(reinterpret_cast<uintptr_t>(g_mallinfo2)) ==
                 FindModuleId(reinterpret_cast<uintptr_t>(g_real.malloc))
             ? g_mallinfo2
             : nullptr;
}

}  // namespace ollamatrace
