#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_TEST_SUPPORT_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_TEST_SUPPORT_H_

// What the tests of the unwinder share.

#include <link.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "preload/capture/unwinder.h"

namespace ollamatrace::capture {

// Makes all loaded modules known.
inline void RegisterLoadedModules() {
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void*) {
        RegisterModule({info->dlpi_addr, info->dlpi_phdr, info->dlpi_phnum, /*hidden=*/false});
        return 0;
      },
      nullptr);
}

// A cache in memory of its own.
class OwnedUnwindCache {
 public:
  OwnedUnwindCache()
      : memory_(mmap(nullptr, kThreadUnwindCacheBytes, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)) {
    if (memory_ == MAP_FAILED) std::abort();
  }
  ~OwnedUnwindCache() { munmap(memory_, kThreadUnwindCacheBytes); }
  OwnedUnwindCache(const OwnedUnwindCache&) = delete;
  OwnedUnwindCache& operator=(const OwnedUnwindCache&) = delete;

  ThreadUnwindCache* get() const { return static_cast<ThreadUnwindCache*>(memory_); }

 private:
  void* const memory_;
};

using Stack = std::vector<uintptr_t>;

inline constexpr int kMaxTestDepth = 512;

// The stack of its caller; frame 0 is the call of it. Stands where a hook would stand.
inline __attribute__((noinline)) Stack StackHere(ThreadUnwindCache* cache, int max = kMaxTestDepth,
                                                 int* unchanged = nullptr) {
  const CallerFrame start = OLLAMATRACE_CALLER_FRAME();
  uintptr_t pcs[kMaxTestDepth];
  const UnwindResult result = Unwind(cache, start, pcs, max);
  if (unchanged != nullptr) *unchanged = result.unchanged;
  return Stack(pcs, pcs + result.depth);
}

// How many frames `stack` has above `outer`, a stack that was taken further out in the same calls:
// its frame 0 is another place in the same function. -1 when it does not lead there.
inline int FramesAbove(const Stack& stack, const Stack& outer) {
  if (stack.size() < outer.size() || outer.empty() ||
      !std::equal(outer.begin() + 1, outer.end(),
                  stack.end() - static_cast<long>(outer.size() - 1))) {
    return -1;
  }
  return static_cast<int>(stack.size() - outer.size());
}

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_TEST_SUPPORT_H_
