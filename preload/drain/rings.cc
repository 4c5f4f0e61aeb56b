#include "preload/drain/rings.h"

#include "preload/drain/fold.h"

namespace ollamatrace {
namespace {

constexpr uint8_t kQuietVisits = 64;
// With more blocks than this, what an event needs is rarely in the cache.
constexpr uint32_t kPrefetchBlocks = 8192;
constexpr uint32_t kShardWords = (kShards + 63) / 64;

enum class Visit : uint8_t { kEmpty, kWaiting, kBatchFull };

uint32_t RingsUsed(const Drain& drain) {
  const uint32_t used = drain.header->rings_used.load(std::memory_order_acquire);
  return used < kMaxRings ? used : kMaxRings;
}

// How many places of its shard come before the event. Negative: its place was given up.
int32_t Ahead(const Drain& drain, const Event& event) {
  return static_cast<int32_t>(event.seq - drain.expected[ShardOf(event)]);
}

// Stages the definitions that came so far. To be called after a ring's head was read: all that its
// events refer to was defined before.
bool StageDefinitions(Drain* drain) {
  const uint64_t head = drain->header->definitions_head.load(std::memory_order_acquire);
  if (head == drain->definitions_tail) return true;
  OpenBatch(drain);
  const uint8_t* const bytes = drain->journal->definitions();
  while (drain->definitions_tail != head) {
    uint32_t size = 0;
    for (uint32_t i = 0; i < 4; ++i) {
      size |= uint32_t{bytes[(drain->definitions_tail + i) % kDefinitionsBytes]} << (8 * i);
    }
    if (size > head - drain->definitions_tail - 4 || size > kDefinitionsBytes) {
      // Somebody wrote over it: what was defined is lost.
      drain->header->losses[static_cast<int>(LossKind::kOther)].fetch_add(
          1, std::memory_order_relaxed);
      drain->definitions_tail = head;
      break;
    }
    if (!drain->staging.Definition(drain->definitions_tail + 4, size)) return false;
    drain->definitions_tail += 4 + size;
  }
  return true;
}

// The ring is empty and its thread is gone.
bool RetireRing(Drain* drain, uint32_t ring) {
  const uint32_t thread = drain->journal->ring(ring)->thread;
  if (!StageDefinitions(drain)) return false;
  OpenBatch(drain);
  if (!HasUndoRoom(*drain, kEventUndoWords) || !SettleRing(drain, ring)) return false;
  if (thread != 0 && !drain->staging.ThreadEnd({ThreadId{thread}, drain->now_ns})) return false;
  TouchRing(drain, ring);
  drain->rings[ring].flags |= kRingRetired;
  drain->rings[ring].quiet = kQuietVisits;
  return true;
}

Visit VisitRing(Drain* drain, uint32_t ring) {
  RingEntry* const entry = drain->journal->ring(ring);
  RingView* const state = &drain->rings[ring];
  if ((state->flags & kRingRetired) != 0) return Visit::kEmpty;
  // The state first: no event follows an orphan's last one.
  const bool orphaned =
      entry->state.load(std::memory_order_acquire) == static_cast<uint32_t>(RingState::kOrphaned);
  const uint64_t head = entry->head.load(std::memory_order_acquire);
  const uint32_t capacity = RingCapacity(ring);
  uint64_t tail = state->tail;
  if (head == tail) {
    if (orphaned) return RetireRing(drain, ring) ? Visit::kEmpty : Visit::kBatchFull;
    if (state->quiet < kQuietVisits) ++state->quiet;
    return Visit::kEmpty;
  }
  state->quiet = 0;
  if (head - tail > capacity) {
    // Somebody wrote over the ring's entry.
    drain->header->losses[static_cast<int>(LossKind::kOther)].fetch_add(1,
                                                                        std::memory_order_relaxed);
    state->tail = head;
    OpenBatch(drain);
    TouchRing(drain, ring);
    return Visit::kEmpty;
  }
  const auto full = static_cast<uint32_t>((head - tail) * kFullRing / capacity);
  if (full >= drain->fullest) drain->fullest = full + 1;
  const Event* const events = drain->journal->ring_events(ring);
  if (Ahead(*drain, events[tail & (capacity - 1)]) > 0) return Visit::kWaiting;
  if (!StageDefinitions(drain)) return Visit::kBatchFull;
  OpenBatch(drain);
  if (!HasUndoRoom(*drain, kEventUndoWords + kRingUndoWords)) return Visit::kBatchFull;
  TouchRing(drain, ring);
  const uint32_t thread = entry->thread;
  const bool prefetch = drain->mode != Mode::kFull && drain->pool.live() > kPrefetchBlocks;
  const auto at = [events, capacity](uint64_t place) -> const Event& {
    return events[place & (capacity - 1)];
  };
  Visit result = Visit::kEmpty;
  while (tail != head) {
    const Event& event = at(tail);
    if (head - tail > 8) {
      if (drain->mode != Mode::kFull) {
        drain->counters.PrefetchLink(at(tail + 8).stack);
        drain->counters.PrefetchSlot(at(tail + 4).stack);
      }
      if (prefetch) {
        drain->pool.PrefetchBucket(at(tail + 8).address);
        drain->pool.PrefetchEntry(at(tail + 4).address);
      }
    }
    uint32_t* const expected = &drain->expected[ShardOf(event)];
    const auto ahead = static_cast<int32_t>(event.seq - *expected);
    if (ahead > 0) {
      result = Visit::kWaiting;
      break;
    }
    if (!HasBatchRoom(*drain)) {
      result = Visit::kBatchFull;
      break;
    }
    if (ahead == 0 && head - tail > 1 && at(tail + 1).address == event.address &&
        ConsumePair(drain, ring, event, at(tail + 1))) {
      *expected += 2;
      drain->events += 2;
      tail += 2;
      continue;
    }
    if (!ConsumeEvent(drain, ring, thread, event)) {
      result = Visit::kBatchFull;
      break;
    }
    // Behind: its place was given up before it came.
    if (ahead == 0) ++*expected;
    ++drain->events;
    ++tail;
  }
  state->tail = tail;
  if (orphaned && tail == head && !RetireRing(drain, ring)) return Visit::kBatchFull;
  return result;
}

void ScanAll(Drain* drain) {
  drain->header->scan_all.exchange(0, std::memory_order_acq_rel);
  drain->scanned_ns = drain->now_ns;
  const uint32_t used = RingsUsed(*drain);
  for (uint32_t ring = 0; ring < used; ++ring) {
    RingView* const state = &drain->rings[ring];
    if ((state->flags & kRingHot) != 0) continue;
    const RingEntry& entry = *drain->journal->ring(ring);
    if (entry.head.load(std::memory_order_acquire) == state->tail &&
        entry.state.load(std::memory_order_relaxed) !=
            static_cast<uint32_t>(RingState::kOrphaned)) {
      continue;
    }
    state->flags |= kRingHot;
    state->quiet = 0;
    drain->hot[drain->hot_count++] = static_cast<uint16_t>(ring);
  }
}

// Rings that were empty for long are looked at with all others, only.
void DropQuiet(Drain* drain) {
  uint32_t kept = 0;
  for (uint32_t i = 0; i < drain->hot_count; ++i) {
    const uint16_t ring = drain->hot[i];
    RingView* const state = &drain->rings[ring];
    if (state->quiet >= kQuietVisits || (state->flags & kRingRetired) != 0) {
      state->flags &= static_cast<uint8_t>(~kRingHot);
    } else {
      drain->hot[kept++] = ring;
    }
  }
  drain->hot_count = kept;
}

// Visits the hot rings until none of them can go on. Returns those that wait, in
// drain->waiting[0, *waiting).
Visit VisitHot(Drain* drain, uint32_t* waiting) {
  uint32_t count = drain->hot_count;
  if (drain->first_hot >= count) drain->first_hot = 0;
  for (uint32_t i = 0; i < count; ++i) {
    const uint32_t place = drain->first_hot + i;
    drain->waiting[i] = drain->hot[place < count ? place : place - count];
  }
  *waiting = count;
  uint32_t events;
  bool first_pass = true;
  do {
    events = drain->events;
    uint32_t kept = 0;
    for (uint32_t i = 0; i < count; ++i) {
      const uint16_t ring = drain->waiting[i];
      const Visit visit = VisitRing(drain, ring);
      if (visit == Visit::kBatchFull) {
        // The next batch begins with this ring, so that each has its turn.
        if (first_pass) drain->first_hot = (drain->first_hot + i) % count;
        return Visit::kBatchFull;
      }
      if (visit == Visit::kWaiting) drain->waiting[kept++] = ring;
    }
    first_pass = false;
    count = kept;
    *waiting = count;
  } while (count > 0 && drain->events != events);
  return count == 0 ? Visit::kEmpty : Visit::kWaiting;
}

bool HasBit(const uint64_t* bits, uint32_t index) {
  return (bits[index / 64] >> (index % 64) & 1) != 0;
}
void SetBit(uint64_t* bits, uint32_t index) { bits[index / 64] |= uint64_t{1} << (index % 64); }

// Skips the places that were abandoned (see rings.h). `give_up`: those of this shard that may still
// be pending, too; kShards: of none; kShards + 1: of all. True: some were skipped.
bool SkipAbandoned(Drain* drain, uint32_t give_up) {
  drain->searched_ns = drain->now_ns;
  uint64_t known[kShardWords] = {};
  uint64_t pending[kShardWords] = {};
  uint64_t queued[kShardWords] = {};
  uint32_t used = RingsUsed(*drain);
  for (uint32_t ring = 0; ring < used; ++ring) {
    const uint64_t head = drain->journal->ring(ring)->head.load(std::memory_order_acquire);
    const uint32_t capacity = RingCapacity(ring);
    uint64_t tail = drain->rings[ring].tail;
    if (head - tail > capacity) continue;
    const Event* const events = drain->journal->ring_events(ring);
    for (; tail != head; ++tail) SetBit(known, ShardOf(events[tail & (capacity - 1)]));
  }
  // Whoever took a place before one of these events has its ring among those used by now.
  used = RingsUsed(*drain);
  for (uint32_t ring = 0; ring < used; ++ring) {
    const RingEntry& entry = *drain->journal->ring(ring);
    if (entry.state.load(std::memory_order_acquire) !=
        static_cast<uint32_t>(RingState::kAttached)) {
      continue;
    }
    const uint32_t shard = entry.pending_shard.load(std::memory_order_acquire);
    if (shard != 0 && shard <= kShards) SetBit(pending, shard - 1);
  }
  for (uint32_t ring = 0; ring < used; ++ring) {
    const uint64_t head = drain->journal->ring(ring)->head.load(std::memory_order_acquire);
    const uint32_t capacity = RingCapacity(ring);
    uint64_t tail = drain->rings[ring].tail;
    if (head - tail > capacity) continue;
    const Event* const events = drain->journal->ring_events(ring);
    for (; tail != head; ++tail) {
      const Event& event = events[tail & (capacity - 1)];
      const uint32_t shard = ShardOf(event);
      const int32_t ahead = Ahead(*drain, event);
      const uint32_t gap = ahead > 0 ? static_cast<uint32_t>(ahead) : 0;
      if (!HasBit(queued, shard) || gap < drain->gaps[shard]) drain->gaps[shard] = gap;
      SetBit(queued, shard);
    }
  }
  uint64_t skipped = 0;
  for (uint32_t shard = 0; shard < kShards; ++shard) {
    if (!HasBit(known, shard) || !HasBit(queued, shard) || drain->gaps[shard] == 0) continue;
    if (HasBit(pending, shard) && give_up != shard && give_up != kShards + 1) continue;
    drain->expected[shard] += drain->gaps[shard];
    skipped += drain->gaps[shard];
  }
  if (skipped == 0) return false;
  drain->header->losses[static_cast<int>(LossKind::kUnfinished)].fetch_add(
      skipped, std::memory_order_relaxed);
  return true;
}

// Some rings wait, drain->waiting[0] among them. True: a place was skipped, they may go on.
bool Unblock(Drain* drain) {
  if (drain->finishing) return SkipAbandoned(drain, kShards + 1);
  // One place is watched at a time: as long as it isn't filled, those who wait for it do.
  if (!drain->watching || drain->expected[drain->watched_shard] != drain->watched_seq) {
    const uint32_t ring = drain->waiting[0];
    const Event& front =
        drain->journal->ring_events(ring)[drain->rings[ring].tail & (RingCapacity(ring) - 1)];
    drain->watching = true;
    drain->watched_shard = ShardOf(front);
    drain->watched_seq = drain->expected[drain->watched_shard];
    drain->watched_since_ns = drain->now_ns;
    drain->searched_ns = 0;
  }
  // Others may keep the drain busy: what goes on is no sign that all does.
  const uint64_t watched_ns = drain->now_ns - drain->watched_since_ns;
  if (drain->events != 0 && watched_ns < kSearchNs) return false;
  if (drain->now_ns - drain->searched_ns < (drain->events != 0 ? kSearchNs : kSearchStuckNs)) {
    return false;
  }
  return SkipAbandoned(drain, watched_ns > kGiveUpNs ? drain->watched_shard : kShards);
}

}  // namespace

RingsStatus DrainRings(Drain* drain) {
  bool scanned = false;
  if (drain->finishing || drain->now_ns >= drain->scanned_ns + kScanAllNs ||
      drain->header->scan_all.load(std::memory_order_relaxed) != 0) {
    ScanAll(drain);
    scanned = true;
  }
  if (!StageDefinitions(drain)) return RingsStatus::kMore;
  while (true) {
    uint32_t waiting = 0;
    const Visit visit = VisitHot(drain, &waiting);
    if (visit == Visit::kBatchFull) return RingsStatus::kMore;
    if (visit == Visit::kEmpty) {
      DropQuiet(drain);
      return RingsStatus::kEmpty;
    }
    // What they wait for may be in a ring that was quiet.
    if (!scanned && drain->events == 0) {
      ScanAll(drain);
      scanned = true;
      continue;
    }
    if (Unblock(drain)) continue;
    DropQuiet(drain);
    return drain->events != 0 ? RingsStatus::kMore : RingsStatus::kWaiting;
  }
}

}  // namespace ollamatrace
