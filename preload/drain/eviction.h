#ifndef OLLAMATRACE_PRELOAD_DRAIN_EVICTION_H_
#define OLLAMATRACE_PRELOAD_DRAIN_EVICTION_H_

// Which blocks are held no longer. A block that dies after it was written out costs two records
// instead of none; a block that is held costs memory in the target. So the more are held, the
// sooner they are written out: a server whose survivors are long-lived soon holds few.

#include <cstdint>

#include "preload/drain/drain_state.h"

namespace ollamatrace {

// Blocks older than this are written out, given how many are held.
inline constexpr uint64_t BlockAgeLimitNs(uint32_t held) {
  constexpr uint64_t kSecond = 1'000'000'000;
  if (held <= (32u << 10)) return 60 * kSecond;
  if (held <= (128u << 10)) return 20 * kSecond;
  if (held <= (512u << 10)) return 5 * kSecond;
  return kSecond;
}
inline constexpr uint64_t MappingAgeLimitNs(uint32_t held) {
  return (held <= kYoungMappings / 2 ? 10 : 1) * uint64_t{1'000'000'000};
}

// At the beginning of a batch: writes out what is old, and makes room for a batch of new blocks
// when the pool is nearly full. Bounded work. True: something was written.
bool Evict(Drain* drain);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_EVICTION_H_
