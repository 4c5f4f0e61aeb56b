#ifndef OLLAMATRACE_PRELOAD_DRAIN_DRAIN_STATE_H_
#define OLLAMATRACE_PRELOAD_DRAIN_DRAIN_STATE_H_

// What the drain knows, in private memory. Its parts:
//   rings      which ring holds the event that is next in order
//   fold       what an event does to the blocks that are held
//   mappings   the same for mappings
//   eviction   which blocks are held no longer and go to the trace
//   staging    records on their way to the trace
//   segments   the files that the trace is made of
//   undo_log   changes of the journal that happen as one
// A batch opens with the first change and commits at the end of each call of drain.h.

#include <cstdint>

#include "preload/drain/block_pool.h"
#include "preload/drain/counter_table.h"
#include "preload/drain/drain.h"
#include "preload/drain/segments.h"
#include "preload/drain/staging.h"
#include "preload/drain/undo_log.h"

namespace ollamatrace {

// What bounds the time that a batch holds the drain's lock: 0.1 to 0.4 ms.
inline constexpr uint32_t kBatchEvents = 4096;
// Undo words that a single event may need, those of two more rings included.
inline constexpr uint32_t kEventUndoWords = 96;
// ... and a ring at the end of the batch: its tail, its limbo and the block in it.
inline constexpr uint32_t kRingUndoWords = 8;

// The young mappings are looked through one by one: fewer than the journal has room for.
inline constexpr uint32_t kYoungMappings = 512;

// The drain's own view of a ring.
struct RingView {
  uint64_t tail;       // with the events of this batch
  uint64_t limbo_key;  // see BlockKey; 0: none
  uint64_t limbo_ns;
  uint8_t limbo_domain;
  uint8_t pending_unmap;  // 1 + index in the journal's table; 0: none
  uint8_t flags;
  uint8_t quiet;  // visits in a row that found nothing
};
inline constexpr uint8_t kRingHot = 1;      // in the list that each batch looks at
inline constexpr uint8_t kRingTouched = 2;  // changed in this batch
inline constexpr uint8_t kRingLimbo = 4;    // the limbo changed in this batch
inline constexpr uint8_t kRingRetired = 8;  // to be free after this batch

struct Drain {
  Journal* journal;
  JournalHeader* header;
  Mode mode;
  uint64_t sample_bytes;  // 0: every block is recorded
  long failure;
  UndoLog undo;
  BlockPool pool;
  CounterTable counters;
  Staging staging;
  Segments segments;
  uint32_t chunk_bytes;  // of records, when a chunk is written

  TickScale scale;
  uint64_t timed_ticks, timed_ns;  // an event's ticks, and what they are by `scale`
  uint64_t now_ns;                 // of the call
  uint64_t busy_ticks;

  // Order.
  uint32_t* expected;  // [kShards]
  uint32_t* gaps;      // [kShards], scratch
  RingView* rings;     // [kMaxRings]
  uint16_t* hot;       // [kMaxRings]
  uint16_t* waiting;   // [kMaxRings], scratch
  uint16_t* touched;   // [kMaxRings]
  uint16_t* limbo;     // [kMaxRings]: rings with a block between kReallocFree and its outcome
  uint32_t hot_count, touched_count, limbo_count;
  uint32_t first_hot;  // where the next batch begins
  uint32_t events;     // consumed in this batch
  uint32_t fullest;    // see DrainFullest
  uint32_t stage_limit;
  uint64_t scanned_ns;  // when all rings were looked at
  bool finishing;
  // A place that kept a ring waiting, and since when.
  bool watching;
  uint32_t watched_shard, watched_seq;
  uint64_t watched_since_ns, searched_ns;

  uint64_t definitions_tail;

  // Young mappings; the journal's entry has the same index.
  uint64_t mapping_begin[kYoungMappings];
  uint64_t mapping_end[kYoungMappings];  // 0: free
  uint32_t mapping_used, mapping_count, pending_count;

  // Eviction.
  uint32_t hand;
  uint32_t mapping_hand;
  uint64_t hand_ns;
  double hand_credit;

  // Heap blocks in the pool, by their weights.
  uint64_t pooled_bytes, pooled_peak_bytes;
  uint64_t pooled_blocks;  // in units of 1 / SampleWeight::kOneBlock
  uint64_t reported_losses[kLossKinds];
};

inline void SetScale(Drain* drain, const TickScale& scale) {
  drain->scale = scale;
  drain->timed_ns = scale.ToNs(drain->timed_ticks);
}
// Events that follow each other often have the same ticks.
inline uint64_t TimeOf(Drain* drain, const Event& event) {
  if (event.ticks != drain->timed_ticks) {
    drain->timed_ticks = event.ticks;
    drain->timed_ns = drain->scale.ToNs(event.ticks);
  }
  return drain->timed_ns;
}

// Blocks of two domains may have one address (a pool's base and its first block). User addresses
// leave the top byte alone.
inline constexpr uint64_t BlockKey(uint64_t address, uint8_t domain) {
  return address ^ static_cast<uint64_t>(domain) << 56;
}

// ---- Batches (drain.cc)

void OpenBatchSlow(Drain* drain);
// To be called before the journal is changed.
inline void OpenBatch(Drain* drain) {
  if (!drain->undo.open()) OpenBatchSlow(drain);
}
void CommitBatch(Drain* drain);

inline bool HasUndoRoom(const Drain& drain, uint32_t words) {
  return drain.undo.used() + 2 * drain.pool.born_count() + kRingUndoWords * drain.touched_count +
             words <=
         kUndoWords;
}
// Whether one more event fits into the batch.
inline bool HasBatchRoom(const Drain& drain) {
  return drain.events < kBatchEvents && HasUndoRoom(drain, kEventUndoWords) &&
         drain.staging.bytes() < drain.stage_limit;
}

inline void TouchRing(Drain* drain, uint32_t ring) {
  RingView* const state = &drain->rings[ring];
  if ((state->flags & kRingTouched) != 0) return;
  state->flags |= kRingTouched;
  drain->touched[drain->touched_count++] = static_cast<uint16_t>(ring);
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_DRAIN_STATE_H_
