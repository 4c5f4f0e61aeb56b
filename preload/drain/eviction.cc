#include "preload/drain/eviction.h"

#include "preload/drain/fold.h"
#include "preload/drain/mappings.h"

namespace ollamatrace {
namespace {

// Entries that one batch looks at, and blocks that it writes out.
constexpr uint32_t kMaxSteps = 8192;
constexpr uint32_t kMaxWritten = 2048;
constexpr uint64_t kYoungNs = 1'000'000'000;

// Moves the hand over `steps` entries and writes out blocks older than `age_ns`, oldest entries
// first: the hand goes round in the order in which entries came into use.
uint32_t Sweep(Drain* drain, uint32_t steps, uint64_t age_ns) {
  uint32_t written = 0;
  const uint32_t used = drain->pool.used();
  for (; steps > 0 && written < kMaxWritten; --steps) {
    if (++drain->hand >= used) drain->hand = 1;
    const uint32_t entry = drain->hand;
    if (!drain->pool.IsLive(entry)) continue;
    const uint64_t born_ns = drain->pool.block(entry)->time_ns;
    if (born_ns + age_ns > drain->now_ns) continue;
    OpenBatch(drain);
    if (!HasBatchRoom(*drain) || !WriteOutBlock(drain, entry)) {
      --drain->hand;
      break;
    }
    ++written;
  }
  return written;
}

bool EvictBlocks(Drain* drain, uint64_t elapsed_ns) {
  BlockPool* const pool = &drain->pool;
  if (pool->live() == 0) return false;
  const uint32_t used = pool->used();
  const uint32_t low = pool->capacity() / 4 < kBatchEvents ? pool->capacity() / 4 : kBatchEvents;
  if (pool->room() < low) {
    const uint32_t steps = used < kMaxSteps ? used : kMaxSteps;
    uint32_t written = Sweep(drain, steps, kYoungNs);
    // All of them young: any.
    if (written < kMaxWritten / 8) written += Sweep(drain, steps, 0);
    return written != 0;
  }
  // Once round in half the age.
  const uint64_t age_ns = BlockAgeLimitNs(pool->live());
  drain->hand_credit += static_cast<double>(elapsed_ns) * used * 2 / static_cast<double>(age_ns);
  const double most = used < kMaxSteps ? used : kMaxSteps;
  if (drain->hand_credit > most) drain->hand_credit = most;
  const uint32_t steps = static_cast<uint32_t>(drain->hand_credit);
  drain->hand_credit -= steps;
  return Sweep(drain, steps, age_ns) != 0;
}

bool EvictMapping(Drain* drain) {
  if (drain->mapping_count == 0) return false;
  if (++drain->mapping_hand >= drain->mapping_used) drain->mapping_hand = 0;
  const uint32_t index = drain->mapping_hand;
  if (drain->mapping_end[index] == 0) return false;
  const uint64_t born_ns = drain->journal->mapping(index)->time_ns;
  if (born_ns + MappingAgeLimitNs(drain->mapping_count) > drain->now_ns) return false;
  OpenBatch(drain);
  return HasBatchRoom(*drain) && WriteOutMapping(drain, index);
}

}  // namespace

bool Evict(Drain* drain) {
  if (drain->mode == Mode::kFull) return false;
  const uint64_t elapsed_ns = drain->now_ns - drain->hand_ns;
  drain->hand_ns = drain->now_ns;
  const bool blocks = EvictBlocks(drain, elapsed_ns);
  return EvictMapping(drain) || blocks;
}

}  // namespace ollamatrace
