#include "preload/capture/unwinder_libunwind.h"

#include <dlfcn.h>
#include <errno.h>

#include <atomic>

#include "preload/capture/unwinder_cache.h"
#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_rules.h"

namespace ollamatrace::capture {
namespace {

using BacktraceFunction = int (*)(void** buffer, int size);
constinit std::atomic<BacktraceFunction> g_backtrace = nullptr;

bool Hidden(uintptr_t pc) {
  ModuleTables tables;
  return FindModule(LookupAddress(pc, false), &tables) != ModuleLookup::kUnknown && tables.hidden;
}

}  // namespace

bool LoadLibunwind() {
  void* library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return false;
  g_backtrace.store(reinterpret_cast<BacktraceFunction>(dlsym(library, "unw_backtrace")),
                    std::memory_order_relaxed);
  return g_backtrace.load(std::memory_order_relaxed) != nullptr;
}

UnwindResult WalkByLibunwind(ThreadUnwindCache* cache, const CallerFrame& start, uintptr_t* pcs,
                             int max) {
  // What it answers lies where WalkByRules would remember its checks: nothing else uses them now.
  void** const all = reinterpret_cast<void**>(cache->zones[0].checks);
  cache->memory = 0;  // so what was remembered is no more
  constexpr int kAll = FrameZone::kChecks * int{sizeof(Check) / sizeof(void*)};
  const int saved_errno = errno;
  const int count = g_backtrace.load(std::memory_order_relaxed)(all, kAll);
  errno = saved_errno;
  int i = 0;
  while (i < count && reinterpret_cast<uintptr_t>(all[i]) != start.pc) ++i;
  int depth = 0;
  for (; i < count && depth < max; ++i) {
    const auto pc = reinterpret_cast<uintptr_t>(all[i]);
    if (!Hidden(pc)) pcs[depth++] = pc;
  }
  return {depth, 0, 0};
}

}  // namespace ollamatrace::capture
