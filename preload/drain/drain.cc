#include "preload/drain/drain.h"

#include <cstring>

#include "preload/base/clock.h"
#include "preload/drain/drain_state.h"
#include "preload/drain/eviction.h"
#include "preload/drain/fold.h"
#include "preload/drain/layout.h"
#include "preload/drain/mappings.h"
#include "preload/drain/rings.h"
#include "preload/drain/segments.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kAnchorNs = 10'000'000;
// Space of the journal that is used from the first batch on.
constexpr uint64_t kChunkRoom = ColumnChunkBound(kStagingBytes);
static_assert(kStagingBytes <= ColumnWriter::kMaxRecordsBytes);

struct Parts {
  Drain* drain;
  uint32_t* expected;
  uint32_t* gaps;
  RingView* rings;
  uint16_t* ring_lists;  // 4 of kMaxRings
  uint64_t* written;
  uint8_t* workspace;
  size_t workspace_bytes;
  uint8_t* chunk;
  ColumnWriter* columns;
  uint8_t* column_bytes;
  BlockPool::Node* blocks;
  uint32_t* buckets;
  uint32_t* born;
  uint32_t* slots;
  CounterTable::Node* counters;
};

uint32_t PoolCapacity(const DrainOptions& options) {
  const uint32_t wanted = options.journal->header()->pool_capacity;
  if (wanted == 0) return kDefaultBlocks;
  return wanted < kMaxBlocks ? wanted : kMaxBlocks;
}

size_t LayOut(const DrainOptions& options, void* memory, Parts* parts) {
  Layout layout(memory);
  parts->drain = layout.Take<Drain>(1);
  parts->expected = layout.Take<uint32_t>(kShards);
  parts->gaps = layout.Take<uint32_t>(kShards);
  parts->rings = layout.Take<RingView>(kMaxRings);
  parts->ring_lists = layout.Take<uint16_t>(size_t{4} * kMaxRings);
  parts->written = layout.Take<uint64_t>(kMaxNodes / 64);
  parts->workspace_bytes = ChunkWorkspaceBytes(options.level);
  parts->workspace = layout.Take<uint8_t>(parts->workspace_bytes);
  parts->chunk = layout.Take<uint8_t>(kChunkRoom);
  if (options.mode == Mode::kFull) {
    parts->columns = layout.Take<ColumnWriter>(1);
    parts->column_bytes = layout.Take<uint8_t>(kStagingBytes);
  } else {
    const uint32_t capacity = PoolCapacity(options);
    parts->blocks = layout.Take<BlockPool::Node>(capacity);
    parts->buckets = layout.Take<uint32_t>(BlockPool::BucketsFor(capacity));
    parts->born = layout.Take<uint32_t>(kBatchEvents);
    parts->slots = layout.Take<uint32_t>(kMaxNodes);
    parts->counters = layout.Take<CounterTable::Node>(options.max_counters);
  }
  return layout.used();
}

// A moment at which ticks and nanoseconds belong together.
void ReadBoth(uint64_t* ticks, uint64_t* ns) {
  *ticks = ReadTicks();
  *ns = MonotonicNs();
}

// With the batch's first change, so that an idle process's journal stays untouched.
void RefreshAnchors(Drain* drain) {
  TimeAnchors* const anchors = &drain->header->anchors;
  // The slope is poor until the anchors are apart.
  if (anchors->ns1 - anchors->ns0 >= kAnchorNs && drain->now_ns - anchors->ns1 < kAnchorNs) return;
  drain->undo.Push(&anchors->ticks1, 2);
  ReadBoth(&anchors->ticks1, &anchors->ns1);
  DrainStep();
  SetScale(drain, TickScale(*anchors));
}

bool IsPaused(const Drain& drain) {
  const uint64_t until = drain.header->pause_until.load(std::memory_order_acquire);
  return until > drain.now_ns && until - drain.now_ns <= kPauseNs;
}

DrainStatus Fail(Drain* drain, long failure) {
  DropCheckpoint(drain);
  drain->failure = failure;
  drain->header->state.store(static_cast<uint32_t>(JournalState::kStopped),
                             std::memory_order_release);
  return DrainStatus::kFailed;
}

// Writes a chunk of what is staged. The file's new bytes are no part of the trace until trace_end
// is committed; a chunk that is written again after a kill overwrites them.
bool WriteStaged(Drain* drain) {
  if (drain->staging.bytes() == 0) return true;
  long failure = MakeRoom(drain, ColumnChunkBound(drain->staging.bytes()));
  if (failure == 0) failure = drain->staging.WriteChunkToFile();
  if (failure == 0) {
    OpenBatch(drain);
    CommitBatch(drain);
    failure = AfterChunk(drain);
  }
  if (failure == 0) return true;
  Fail(drain, failure);
  return false;
}

// Adds the time of a call to busy_ticks.
class BusyTime {
 public:
  explicit BusyTime(Drain* drain) : drain_(drain), begin_(ReadTicks()) {}
  ~BusyTime() { drain_->busy_ticks += ReadTicks() - begin_; }
  BusyTime(const BusyTime&) = delete;
  BusyTime& operator=(const BusyTime&) = delete;

 private:
  Drain* drain_;
  uint64_t begin_;
};

// One batch of what the rings hold.
RingsStatus BatchOfRings(Drain* drain) {
  drain->events = 0;
  drain->fullest = 0;
  const bool evicted = Evict(drain);
  const RingsStatus status = DrainRings(drain);
  if (drain->undo.open()) CommitBatch(drain);
  return evicted && status != RingsStatus::kEmpty ? RingsStatus::kMore : status;
}

uint64_t BusyNs(const Drain& drain) {
  const TimeAnchors& anchors = drain.header->anchors;
  if (anchors.ticks1 <= anchors.ticks0) return drain.busy_ticks;
  return static_cast<uint64_t>(static_cast<double>(drain.busy_ticks) *
                               static_cast<double>(anchors.ns1 - anchors.ns0) /
                               static_cast<double>(anchors.ticks1 - anchors.ticks0));
}

uint64_t BytesInUse(const Drain& drain) {
  const uint64_t rings = drain.header->rings_used.load(std::memory_order_relaxed);
  const uint64_t nodes = drain.header->next_node.load(std::memory_order_relaxed);
  uint64_t bytes = 4 * kJournalPage + kStagingBytes;
  bytes += rings * (sizeof(RingEntry) + sizeof(RingView) + kSmallRingEvents * sizeof(Event));
  bytes += (rings < kLargeRings ? rings : kLargeRings) * (kLargeRingEvents - kSmallRingEvents) *
           sizeof(Event);
  bytes += nodes * (sizeof(StackNode) + sizeof(uint32_t));
  if (drain.mode != Mode::kFull) {
    bytes += uint64_t{drain.counters.used()} * (sizeof(CounterSlot) + sizeof(CounterTable::Node));
    bytes += uint64_t{drain.pool.used()} * (sizeof(BlockEntry) + sizeof(BlockPool::Node));
    bytes += uint64_t{drain.pool.buckets()} * sizeof(uint32_t);
  }
  if (drain.staging.chunks() > 0) bytes += 2u << 20;  // the compressor and its output
  if (drain.staging.chunks() > 0 && drain.mode == Mode::kFull) bytes += 4u << 20;  // columns
  return bytes;
}

bool StageLosses(Drain* drain) {
  for (int kind = 0; kind < kLossKinds; ++kind) {
    const uint64_t events = drain->header->losses[kind].load(std::memory_order_relaxed);
    if (events == drain->reported_losses[kind]) continue;
    if (!drain->staging.Loss({drain->now_ns, static_cast<LossKind>(kind), events})) return false;
    drain->reported_losses[kind] = events;
  }
  return true;
}

// Calls `step` until it says true; in between, what was staged is written. False: the recording
// failed.
template <typename Step>
bool Finish(Drain* drain, Step step) {
  drain->events = 0;
  while (true) {
    OpenBatch(drain);
    const bool done = step();
    CommitBatch(drain);
    if (done) return true;
    const bool full = drain->staging.full() || drain->staging.bytes() >= drain->chunk_bytes;
    if (full && !WriteStaged(drain)) return false;
  }
}

bool FinishRings(Drain* drain) {
  // Producers that don't stop are left behind.
  uint64_t batches =
      2 * (uint64_t{kLargeRings} * kLargeRingEvents + uint64_t{kMaxRings} * kSmallRingEvents) /
      kBatchEvents;
  while (true) {
    drain->now_ns = MonotonicNs();
    const RingsStatus status = BatchOfRings(drain);
    const bool full = drain->staging.full() || drain->staging.bytes() >= drain->chunk_bytes;
    if (full && !WriteStaged(drain)) return false;
    if (status != RingsStatus::kMore || batches-- == 0) return true;
  }
}

// Whatever was being unmapped or reallocated, nobody may use it any more.
bool FinishCalls(Drain* drain) {
  const uint32_t rings = drain->header->rings_used.load(std::memory_order_acquire);
  uint32_t ring = 0;
  return Finish(drain, [drain, &ring, rings] {
    for (; ring < rings && ring < kMaxRings; ++ring) {
      if (!HasBatchRoom(*drain) || !SettleRing(drain, ring)) return false;
    }
    return true;
  });
}

bool FinishBlocks(Drain* drain) {
  uint32_t entry = 1;
  return Finish(drain, [drain, &entry] {
    for (; entry < drain->pool.used(); ++entry) {
      if (!drain->pool.IsLive(entry)) continue;
      if (!HasBatchRoom(*drain) || !WriteOutBlock(drain, entry)) return false;
    }
    return true;
  });
}

bool FinishMappings(Drain* drain) {
  uint32_t index = 0;
  return Finish(drain, [drain, &index] {
    for (; index < drain->mapping_used; ++index) {
      if (drain->mapping_end[index] == 0) continue;
      if (!HasBatchRoom(*drain) || !WriteOutMapping(drain, index)) return false;
    }
    return true;
  });
}

bool FinishCounters(Drain* drain) {
  uint32_t index = 0;
  return Finish(drain, [drain, &index] {
    for (; index < drain->counters.used(); ++index) {
      const CounterSlot& slot = *drain->counters.slot(index);
      if ((slot.domain & kWeightSlot) != 0) {
        const auto& weights = reinterpret_cast<const WeightSlot&>(slot);
        if (!HasBatchRoom(*drain) || !drain->staging.Weights(weights)) return false;
        continue;
      }
      if (slot.pairs == 0) continue;
      CountersRecord record;
      record.stack = StackId{slot.stack};
      record.domain = static_cast<Domain>(slot.domain);
      record.pairs = slot.pairs;
      record.bytes = slot.bytes;
      record.lifetime_ns = slot.lifetime_ns;
      record.peak_bytes = slot.peak_bytes;
      record.first_ns = slot.first_ns;
      record.last_ns = slot.last_ns;
      if (!HasBatchRoom(*drain) || !drain->staging.Counters(record)) return false;
    }
    return true;
  });
}

bool FinishEnd(Drain* drain, EndKind kind) {
  drain->now_ns = MonotonicNs();
  return Finish(drain, [drain, kind] {
    drain->segments.ended = true;
    return StageLosses(drain) && drain->staging.End({drain->now_ns, kind});
  });
}

}  // namespace

// ---- Batches

void OpenBatchSlow(Drain* drain) {
  static_assert(offsetof(JournalHeader, counters_used) - offsetof(JournalHeader, trace_end) == 28);
  drain->undo.Begin();
  // All of the header that CommitBatch changes.
  drain->undo.Push(&drain->header->trace_end, 4);
  drain->counters.NextBatch();
  RefreshAnchors(drain);
}

void CommitBatch(Drain* drain) {
  JournalHeader* const header = drain->header;
  if (drain->mode != Mode::kFull) {
    drain->pool.StoreBorn();
    header->pool_used = drain->pool.used();
    header->counters_used = drain->counters.used();
  }
  for (uint32_t i = 0; i < drain->touched_count; ++i) {
    const uint32_t ring = drain->touched[i];
    RingEntry* const entry = drain->journal->ring(ring);
    const RingView& view = drain->rings[ring];
    if (entry->tail != view.tail) {
      drain->undo.Push(&entry->tail, 1);
      StoreWord(&entry->tail, view.tail);
    }
    if ((view.flags & kRingLimbo) != 0) {
      if (view.limbo_key != 0) MarkLimbo(drain, view.limbo_key, true);
      drain->undo.Push(&entry->limbo_address, 3);
      entry->limbo_ns = view.limbo_ns;
      entry->limbo_domain = view.limbo_domain;
      StoreWord(&entry->limbo_address,
                view.limbo_key == 0 ? 0 : BlockKey(view.limbo_key, view.limbo_domain));
    }
  }
  StoreWord(&header->trace_end, drain->staging.trace_end());
  StoreWord(&header->staged_bytes, drain->staging.bytes());
  StoreWord(&header->next_chunk, drain->staging.chunks());
  StoreWord(&header->definitions_tail, drain->definitions_tail);
  drain->undo.Commit();

  // Nothing can be taken back any more: what was consumed may be overwritten.
  if (drain->mode != Mode::kFull) drain->pool.ReuseFreed();
  header->definitions_released.store(drain->definitions_tail, std::memory_order_release);
  for (uint32_t i = 0; i < drain->touched_count; ++i) {
    const uint32_t ring = drain->touched[i];
    RingEntry* const entry = drain->journal->ring(ring);
    RingView* const view = &drain->rings[ring];
    entry->released.store(view->tail, std::memory_order_release);
    if ((view->flags & kRingRetired) != 0) {
      entry->pending_shard.store(0, std::memory_order_relaxed);
      entry->thread = 0;
      entry->tid = 0;
      entry->state.store(static_cast<uint32_t>(RingState::kFree), std::memory_order_release);
    }
    view->flags &= kRingHot;
  }
  drain->touched_count = 0;
}

// ---- The interface

size_t DrainBytes(const DrainOptions& options) {
  Parts parts = {};
  return LayOut(options, nullptr, &parts);
}

Drain* CreateDrain(void* memory, const DrainOptions& options) {
  Parts parts = {};
  LayOut(options, memory, &parts);
  Journal* const journal = options.journal;
  JournalHeader* const header = journal->header();
  if (!ReserveJournal(journal, kUndoOffset, uint64_t{kUndoWords} * 8) ||
      !ReserveJournal(journal, kDefinitionsOffset, kDefinitionsBytes) ||
      !ReserveJournal(journal, kStagingOffset, kStagingBytes)) {
    return nullptr;
  }
  Drain* const drain = parts.drain;
  drain->journal = journal;
  drain->header = header;
  drain->mode = options.mode;
  drain->sample_bytes = options.sample_bytes;
  drain->undo.Init(journal);
  drain->staging.Init(journal, options.trace, parts.written, parts.chunk, kChunkRoom, parts.columns,
                      parts.column_bytes);
  if (!InitChunkWriter(drain->staging.writer(), parts.workspace, parts.workspace_bytes,
                       options.level)) {
    return nullptr;
  }
  drain->expected = parts.expected;
  drain->gaps = parts.gaps;
  drain->rings = parts.rings;
  drain->hot = parts.ring_lists;
  drain->waiting = parts.ring_lists + kMaxRings;
  drain->touched = parts.ring_lists + 2 * kMaxRings;
  drain->limbo = parts.ring_lists + 3 * kMaxRings;
  if (options.mode != Mode::kFull) {
    header->pool_capacity = PoolCapacity(options);
    drain->pool.Init(journal, &drain->undo, header->pool_capacity, parts.blocks, parts.buckets,
                     parts.born);
    drain->counters.Init(journal, &drain->undo, options.max_counters, parts.slots, parts.counters);
  }
  TimeAnchors* const anchors = &header->anchors;
  if (anchors->ns0 == 0) {
    ReadBoth(&anchors->ticks0, &anchors->ns0);
    anchors->ticks1 = anchors->ticks0;
    anchors->ns1 = anchors->ns0;
  }
  SetScale(drain, TickScale(*anchors));
  drain->now_ns = MonotonicNs();
  drain->hand_ns = drain->now_ns;
  InitSegments(drain, options.max_bytes);
  if (header->identity_bytes != 0) {
    OpenBatch(drain);
    if (!drain->staging.Encoded(journal->identity(), header->identity_bytes)) return nullptr;
    CommitBatch(drain);
  }
  return drain;
}

DrainStatus DrainBatch(Drain* drain, bool may_write) {
  if (drain->failure != 0) return DrainStatus::kFailed;
  drain->now_ns = MonotonicNs();
  if (IsPaused(*drain)) return DrainStatus::kPaused;
  const BusyTime busy(drain);
  drain->stage_limit = may_write ? drain->chunk_bytes : kStagingBytes;
  RingsStatus status = RingsStatus::kMore;
  if (drain->staging.bytes() < drain->stage_limit && !drain->staging.full()) {
    status = BatchOfRings(drain);
  }
  if (drain->staging.full() || drain->staging.bytes() >= drain->stage_limit) {
    if (!may_write) return DrainStatus::kFull;
    if (!WriteStaged(drain)) return DrainStatus::kFailed;
    StepCheckpoint(drain);
    return DrainStatus::kProgress;
  }
  if (may_write) StepCheckpoint(drain);
  return status == RingsStatus::kMore ? DrainStatus::kProgress : DrainStatus::kIdle;
}

DrainStatus DrainSample(Drain* drain, const SampleRecord& sample) {
  if (drain->failure != 0) return DrainStatus::kFailed;
  drain->now_ns = MonotonicNs();
  if (IsPaused(*drain)) return DrainStatus::kPaused;
  const BusyTime busy(drain);
  if (!drain->staging.HasRoom(kSampleBytes + kLossKinds * kSmallRecordBytes)) {
    return DrainStatus::kFull;
  }
  SampleRecord record = sample;
  record.pooled_bytes = drain->pooled_bytes;
  record.pooled_blocks = drain->pooled_blocks / SampleWeight::kOneBlock;
  record.pooled_peak_bytes = drain->pooled_peak_bytes;
  if (record.tracer_cpu_ns == kUnknownGauge) record.tracer_cpu_ns = BusyNs(*drain);
  if (record.tracer_bytes == kUnknownGauge) record.tracer_bytes = BytesInUse(*drain);
  OpenBatch(drain);
  drain->staging.Sample(record);
  StageLosses(drain);
  CommitBatch(drain);
  drain->pooled_peak_bytes = drain->pooled_bytes;
  return DrainStatus::kIdle;
}

DrainStatus DrainMemoryMap(Drain* drain, const MemoryMapRecord& map) {
  if (drain->failure != 0) return DrainStatus::kFailed;
  drain->now_ns = MonotonicNs();
  if (IsPaused(*drain)) return DrainStatus::kPaused;
  const BusyTime busy(drain);
  if (!drain->staging.HasRoom(kMemoryMapBytes)) return DrainStatus::kFull;
  OpenBatch(drain);
  drain->staging.MemoryMap(map);
  CommitBatch(drain);
  return DrainStatus::kIdle;
}

DrainStatus DrainFlush(Drain* drain) {
  if (drain->failure != 0) return DrainStatus::kFailed;
  drain->now_ns = MonotonicNs();
  if (IsPaused(*drain)) return DrainStatus::kPaused;
  const BusyTime busy(drain);
  return WriteStaged(drain) ? DrainStatus::kIdle : DrainStatus::kFailed;
}

DrainStatus DrainFinish(Drain* drain, EndKind kind) {
  if (drain->failure != 0) return DrainStatus::kFailed;
  drain->finishing = true;
  drain->stage_limit = drain->chunk_bytes;
  const bool done = FinishRings(drain) && FinishCalls(drain) && FinishBlocks(drain) &&
                    FinishMappings(drain) && FinishCounters(drain) && FinishEnd(drain, kind) &&
                    WriteStaged(drain);
  if (!done) return DrainStatus::kFailed;
  DropCheckpoint(drain);
  drain->header->state.store(static_cast<uint32_t>(JournalState::kFinished),
                             std::memory_order_release);
  return DrainStatus::kIdle;
}

uint32_t DrainFullest(const Drain* drain) { return drain->fullest; }

void ForgetDrain(Drain* drain) { ForgetSegmentFiles(drain); }

long DrainFailure(const Drain* drain) { return drain->failure; }

}  // namespace ollamatrace
