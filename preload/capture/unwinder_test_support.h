#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_TEST_SUPPORT_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_TEST_SUPPORT_H_

// What the tests of the unwinder share.

#include <link.h>
#include <sys/mman.h>

#include <cstdint>
#include <cstdlib>

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

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_TEST_SUPPORT_H_
