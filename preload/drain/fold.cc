#include "preload/drain/fold.h"

#include "preload/drain/mappings.h"

namespace ollamatrace {
namespace {

uint8_t BlockDomain(const BlockEntry& block) { return static_cast<uint8_t>(block.packed >> 56); }

AllocRecord AllocOf(const BlockEntry& block, uint64_t address) {
  AllocRecord record;
  record.time_ns = block.time_ns;
  record.thread = ThreadId{block.thread};
  record.domain = static_cast<Domain>(BlockDomain(block));
  record.function = EventFunction(block.packed << 4 & (uint64_t{15} << 52));
  record.stack = StackId{block.stack};
  record.address = address;
  record.size = EventSize(block.packed);
  return record;
}

uint64_t BlockAddress(const Drain& drain, uint32_t entry, const BlockEntry& block) {
  return BlockKey(drain.pool.Address(entry), BlockDomain(block));
}

// Of blocks in the heap alone is it known how they were drawn.
SampleWeight Weight(const Drain& drain, uint64_t size, uint8_t domain) {
  return WeightOf(size, domain == static_cast<uint8_t>(Domain::kHeap) ? drain.sample_bytes : 0);
}
SampleWeight Weight(const Drain& drain, const BlockEntry& block) {
  return Weight(drain, EventSize(block.packed), BlockDomain(block));
}

void RemoveBlock(Drain* drain, uint32_t entry, const BlockEntry& block,
                 const SampleWeight& weight) {
  if (BlockDomain(block) == static_cast<uint8_t>(Domain::kHeap)) {
    drain->pooled_bytes -= weight.bytes;
    drain->pooled_blocks -= weight.blocks;
  }
  drain->pool.Remove(entry);
}

// A held block was freed.
bool FoldBlock(Drain* drain, uint32_t entry, uint64_t time_ns, uint32_t thread) {
  const BlockEntry& block = *drain->pool.block(entry);
  const Domain domain = static_cast<Domain>(BlockDomain(block));
  const SampleWeight weight = Weight(*drain, block);
  CounterSlot* const slot = drain->counters.Change(block.stack, domain);
  const bool weighs = drain->sample_bytes != 0 && domain == Domain::kHeap;
  WeightSlot* const weights = weighs ? drain->counters.ChangeWeights(block.stack, domain) : nullptr;
  if (slot != nullptr && (weights != nullptr || !weighs)) {
    AddPair(slot, EventSize(block.packed), weight.bytes, block.time_ns, time_ns);
    if (weighs) AddWeight(weights, weight);
  } else {
    const AllocRecord alloc = AllocOf(block, BlockAddress(*drain, entry, block));
    if (!drain->staging.Pair(alloc, {time_ns, ThreadId{thread}, domain, alloc.address})) {
      return false;
    }
    if (slot != nullptr) DropLive(slot, weight.bytes);
  }
  RemoveBlock(drain, entry, block, weight);
  return true;
}

// ---- Realloc

void LeaveLimbo(Drain* drain, uint32_t ring) {
  RingView* const state = &drain->rings[ring];
  state->limbo_key = 0;
  state->flags |= kRingLimbo;
  TouchRing(drain, ring);
  for (uint32_t i = 0; i < drain->limbo_count; ++i) {
    if (drain->limbo[i] != ring) continue;
    drain->limbo[i] = drain->limbo[--drain->limbo_count];
    return;
  }
}

void EnterLimbo(Drain* drain, uint32_t ring, const Event& event, uint64_t time_ns) {
  RingView* const state = &drain->rings[ring];
  state->limbo_domain = EventAttributes(event.packed);
  state->limbo_key = BlockKey(event.address, state->limbo_domain);
  state->limbo_ns = time_ns;
  state->flags |= kRingLimbo;
  drain->limbo[drain->limbo_count++] = static_cast<uint16_t>(ring);
}

// The ring's realloc went through: its old block was freed.
bool FreeLimbo(Drain* drain, uint32_t ring) {
  const RingView& state = drain->rings[ring];
  const uint32_t thread = drain->journal->ring(ring)->thread;
  const uint32_t entry = drain->mode == Mode::kFull ? 0 : drain->pool.Find(state.limbo_key);
  if (entry != 0) {
    if (!FoldBlock(drain, entry, state.limbo_ns, thread)) return false;
  } else if (!drain->staging.Free({state.limbo_ns, ThreadId{thread},
                                   static_cast<Domain>(state.limbo_domain),
                                   BlockKey(state.limbo_key, state.limbo_domain)})) {
    return false;
  }
  LeaveLimbo(drain, ring);
  return true;
}

// Another block has the address: whoever reallocates the old one has freed it.
bool FreeLimboOf(Drain* drain, uint64_t key) {
  for (uint32_t i = 0; i < drain->limbo_count;) {
    const uint32_t ring = drain->limbo[i];
    if (drain->rings[ring].limbo_key != key) {
      ++i;
    } else if (!FreeLimbo(drain, ring)) {
      return false;
    }
  }
  return true;
}

bool SettleLimbo(Drain* drain, uint32_t ring, EventKind next) {
  if (drain->rings[ring].limbo_key == 0) return true;
  if (next != EventKind::kReallocFailed) return FreeLimbo(drain, ring);
  MarkLimbo(drain, drain->rings[ring].limbo_key, false);
  LeaveLimbo(drain, ring);
  return true;
}

// ---- Blocks

bool OnAlloc(Drain* drain, const Event& event, uint32_t thread, uint64_t time_ns) {
  const uint8_t domain = EventAttributes(event.packed);
  const uint64_t key = BlockKey(event.address, domain);
  const uint64_t size = EventSize(event.packed);
  const AllocFunction function = EventFunction(event.packed);
  if (event.address == 0) return true;
  if (drain->limbo_count != 0 && !FreeLimboOf(drain, key)) return false;
  if (drain->mode != Mode::kFull) {
    const uint32_t old = drain->pool.Find(key);
    // A block whose free was lost.
    if (old != 0 && !FoldBlock(drain, old, time_ns, thread)) return false;
    const uint64_t packed =
        size | static_cast<uint64_t>(function) << 48 | static_cast<uint64_t>(domain) << 56;
    if (drain->pool.Add(key, packed, time_ns, event.stack, thread) != 0) {
      CounterSlot* const slot = drain->counters.Change(event.stack, static_cast<Domain>(domain));
      const SampleWeight weight = Weight(*drain, size, domain);
      if (slot != nullptr) AddLive(slot, weight.bytes);
      if (domain == static_cast<uint8_t>(Domain::kHeap)) {
        drain->pooled_bytes += weight.bytes;
        drain->pooled_blocks += weight.blocks;
        if (drain->pooled_bytes > drain->pooled_peak_bytes) {
          drain->pooled_peak_bytes = drain->pooled_bytes;
        }
      }
      return true;
    }
  }
  return drain->staging.Alloc({time_ns, ThreadId{thread}, static_cast<Domain>(domain), function,
                               StackId{event.stack}, event.address, size});
}

bool OnFree(Drain* drain, const Event& event, uint32_t thread, uint64_t time_ns) {
  const uint8_t domain = EventAttributes(event.packed);
  const uint64_t key = BlockKey(event.address, domain);
  if (event.address == 0) return true;
  if (drain->limbo_count != 0) {
    // The block that took the address of one in limbo has an event that was lost, and this frees
    // it: one free for both.
    for (uint32_t i = 0; i < drain->limbo_count; ++i) {
      if (drain->rings[drain->limbo[i]].limbo_key != key) continue;
      LeaveLimbo(drain, drain->limbo[i]);
      break;
    }
  }
  if (drain->mode != Mode::kFull) {
    const uint32_t entry = drain->pool.Find(key);
    if (entry != 0) return FoldBlock(drain, entry, time_ns, thread);
  }
  return drain->staging.Free(
      {time_ns, ThreadId{thread}, static_cast<Domain>(domain), event.address});
}

}  // namespace

bool ConsumeEvent(Drain* drain, uint32_t ring, uint32_t thread, const Event& event) {
  const EventKind kind = EventKindOf(event.packed);
  const RingView& state = drain->rings[ring];
  if (__builtin_expect(state.limbo_key != 0, 0) && !SettleLimbo(drain, ring, kind)) return false;
  if (__builtin_expect(state.pending_unmap != 0, 0) && !SettleUnmap(drain, ring, kind)) {
    return false;
  }
  const uint64_t time_ns = TimeOf(drain, event);
  switch (kind) {
    case EventKind::kAlloc:
    case EventKind::kReallocDone:
      return OnAlloc(drain, event, thread, time_ns);
    case EventKind::kFree:
      return OnFree(drain, event, thread, time_ns);
    case EventKind::kReallocFree:
      if (event.address != 0) EnterLimbo(drain, ring, event, time_ns);
      return true;
    case EventKind::kMap:
      return OnMap(drain, event, thread, time_ns);
    case EventKind::kUnmap:
      return OnUnmap(drain, ring, event, thread, time_ns);
    case EventKind::kNothing:
    case EventKind::kReallocFailed:
    case EventKind::kReallocFreed:
    case EventKind::kUnmapFailed:
      return true;
  }
  return true;
}

bool ConsumePair(Drain* drain, uint32_t ring, const Event& alloc, const Event& free) {
  const uint8_t domain = EventAttributes(alloc.packed);
  const bool pair = free.address == alloc.address && free.seq == alloc.seq + 1 &&
                    EventKindOf(alloc.packed) == EventKind::kAlloc &&
                    EventKindOf(free.packed) == EventKind::kFree &&
                    EventAttributes(free.packed) == domain && alloc.address != 0;
  const bool simple = drain->mode == Mode::kSurvivors && drain->limbo_count == 0 &&
                      drain->rings[ring].pending_unmap == 0;
  if (!pair || !simple) return false;
  if (drain->pool.Find(BlockKey(alloc.address, domain)) != 0) return false;
  CounterSlot* const slot = drain->counters.Change(alloc.stack, static_cast<Domain>(domain));
  if (slot == nullptr) return false;
  const uint64_t size = EventSize(alloc.packed);
  AddLive(slot, size);
  const uint64_t born_ns = TimeOf(drain, alloc);
  AddPair(slot, size, size, born_ns, TimeOf(drain, free));
  if (domain == static_cast<uint8_t>(Domain::kHeap) &&
      drain->pooled_bytes + size > drain->pooled_peak_bytes) {
    drain->pooled_peak_bytes = drain->pooled_bytes + size;
  }
  return true;
}

void MarkLimbo(Drain* drain, uint64_t key, bool in_limbo) {
  const uint32_t entry = drain->mode == Mode::kFull ? 0 : drain->pool.Find(key);
  if (entry == 0) return;
  BlockEntry* const block = drain->pool.block(entry);
  const uint64_t packed = in_limbo ? block->packed | kBlockLimbo : block->packed & ~kBlockLimbo;
  if (packed == block->packed) return;
  drain->undo.Push(&block->packed, 1);
  StoreWord(&block->packed, packed);
}

bool SettleRing(Drain* drain, uint32_t ring) {
  return SettleLimbo(drain, ring, EventKind::kNothing) &&
         SettleUnmap(drain, ring, EventKind::kNothing);
}

bool WriteOutBlock(Drain* drain, uint32_t entry) {
  const BlockEntry& block = *drain->pool.block(entry);
  const AllocRecord record = AllocOf(block, BlockAddress(*drain, entry, block));
  if (!drain->staging.Alloc(record)) return false;
  CounterSlot* const slot = drain->counters.Change(block.stack, record.domain);
  const SampleWeight weight = Weight(*drain, block);
  if (slot != nullptr) DropLive(slot, weight.bytes);
  RemoveBlock(drain, entry, block, weight);
  return true;
}

}  // namespace ollamatrace
