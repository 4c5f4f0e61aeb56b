#ifndef OLLAMATRACE_PRELOAD_BASE_OWN_MEMORY_H_
#define OLLAMATRACE_PRELOAD_BASE_OWN_MEMORY_H_

// Private memory of the library's own, of which a list is kept. (Kernels that know names of
// anonymous mappings are too few.)

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/base/sys.h"

namespace ollamatrace {

inline constinit OwnMappings g_own_mappings{};

// As sys::MmapPrivate. Any thread, any time.
inline void* MapOwn(size_t length, int flags = 0) {
  void* const memory = sys::MmapPrivate(length, flags);
  if (memory == nullptr) return nullptr;
  const uint32_t index = g_own_mappings.used.fetch_add(1, std::memory_order_relaxed);
  if (index < kMaxOwnMappings) {
    g_own_mappings.list[index].length = length;
    g_own_mappings.list[index].begin.store(reinterpret_cast<uint64_t>(memory),
                                           std::memory_order_release);
  }
  return memory;
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_BASE_OWN_MEMORY_H_
