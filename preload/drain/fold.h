#ifndef OLLAMATRACE_PRELOAD_DRAIN_FOLD_H_
#define OLLAMATRACE_PRELOAD_DRAIN_FOLD_H_

// What events do. Survivors: a block is held in the pool; when it is freed there, the pair is
// folded into its stack's counters. Full: each event is a record.
//
// The functions answer false when the staging section has no room for what they would write. What
// they did until then is done and complete in itself: they go on from there when they are called
// again in a later batch.

#include <cstdint>

#include "preload/drain/drain_state.h"

namespace ollamatrace {

// The next event of the ring, whose thread is `thread`.
bool ConsumeEvent(Drain* drain, uint32_t ring, uint32_t thread, const Event& event);

// The same for an allocation and the next event of its ring, when that frees the block and comes
// next in the order: a pair so young never enters the pool. False: they are no such pair, and
// nothing was done. There is room for both in the batch.
bool ConsumePair(Drain* drain, uint32_t ring, const Event& alloc, const Event& free);

// No event will follow in the ring: what it left open went through.
bool SettleRing(Drain* drain, uint32_t ring);

// Marks the block, if it is held, as one between kReallocFree and its outcome. At the end of a
// batch: most outcomes come in the same.
void MarkLimbo(Drain* drain, uint64_t key, bool in_limbo);

// Writes the block to the trace; it is held no longer.
bool WriteOutBlock(Drain* drain, uint32_t entry);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_FOLD_H_
