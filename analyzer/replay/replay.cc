#include "analyzer/replay/replay.h"

#include <algorithm>
#include <string>
#include <tuple>

#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ollamatrace {
namespace {

// A timeline is for drawing: more points than this are never looked at.
constexpr size_t kMaxTimelinePoints = 4096;
constexpr size_t kMaxMessages = 200;
constexpr size_t kMaxGpuFailures = 1000;
constexpr size_t kMaxGpuDevices = 256;

absl::string_view View(const Text& text) {
  return text.data == nullptr ? absl::string_view() : absl::string_view(text.data, text.size);
}

// Sums of sizes from a damaged trace stop at the top instead of wrapping.
void AddTo(uint64_t& sum, uint64_t value) { sum = value > ~sum ? ~uint64_t{0} : sum + value; }
void TakeFrom(uint64_t& sum, uint64_t value) { sum = value > sum ? 0 : sum - value; }

void AddBlock(DomainTotals& total, uint64_t size) {
  AddTo(total.live_bytes, size);
  ++total.live_blocks;
  ++total.allocations;
  AddTo(total.bytes, size);
  total.peak_bytes = std::max(total.peak_bytes, total.live_bytes);
}

void RemoveBlock(DomainTotals& total, uint64_t size) {
  TakeFrom(total.live_bytes, size);
  TakeFrom(total.live_blocks, 1);
  ++total.frees;
}

// Pairs that were folded.
void AddPairs(DomainTotals& total, const CountersRecord& pairs) {
  AddTo(total.allocations, pairs.pairs);
  AddTo(total.frees, pairs.pairs);
  AddTo(total.bytes, pairs.bytes);
  total.peak_bytes = std::max(total.peak_bytes, pairs.peak_bytes);
}

MappingClass ClassOf(const MapRecord& map) {
  constexpr uint8_t kAccess = 7;  // PROT_READ | PROT_WRITE | PROT_EXEC
  if (map.kind == kMapFilePrivate || map.kind == kMapFileShared) return MappingClass::kFile;
  return (map.protection & kAccess) == 0 ? MappingClass::kReserved : MappingClass::kAnonymous;
}

}  // namespace

Replay::Replay(ReplayOptions options) : options_(std::move(options)) { SetAxes(); }

// Both begin with the process, or with the window, or where history is complete: before, what was
// live only for a while is missing, and what is left would look like growth.
void Replay::SetAxes() {
  const uint64_t from = std::max(history_.complete_from_ns(), options_.since_ns);
  history_.series.SetOrigin(from);
  const auto& times = options_.request_times;
  const auto first = std::lower_bound(times.begin(), times.end(), from);
  const auto end = std::upper_bound(first, times.end(), options_.until_ns);
  history_.series.SetRequests(absl::MakeConstSpan(times).subspan(
      static_cast<size_t>(first - times.begin()), static_cast<size_t>(end - first)));
}

void Replay::OnHeader(const HeaderRecord& header) {
  if (history_.has_header) return;
  history_.has_header = true;
  history_.pid = header.pid;
  history_.ppid = header.ppid;
  history_.start_ns = header.start_ns;
  history_.wall_ns = header.wall_ns;
  history_.process_start = header.process_start;
  history_.segment = header.segment;
  history_.segment_ns = header.segment_ns;
  page_bytes_ = header.page_bytes;
  history_.born_by_fork = header.born_by_fork != 0;
  history_.mode = header.mode;
  if (header.mode == Mode::kSample && header.sample_bytes != 0) {
    history_.sample_bytes = header.sample_bytes;
    estimator_.emplace(header.sample_bytes);
  }
  history_.exe = std::string(View(header.exe));
  if (header.argv.size > 0) {
    history_.argv = absl::StrSplit(View(header.argv), '\0');
  }
  history_.library = std::string(View(header.library));
  history_.architecture = std::string(View(header.architecture));
  Saw(header.start_ns);
  if (history_.stacks.empty()) SetAxes();
}

void Replay::OnModule(const ModuleRecord& module) {
  // Stays when it is unloaded: its stacks are still to be named, and ids are not reused.
  history_.modules[static_cast<uint32_t>(module.id)] = {std::string(View(module.path)),
                                                        std::string(View(module.build_id)),
                                                        module.bias, module.begin, module.end};
}

void Replay::OnThread(const ThreadRecord& thread) {
  history_.thread_names[static_cast<uint32_t>(thread.id)] = std::string(View(thread.name));
}

void Replay::OnNode(const NodeRecord& node) {
  history_.nodes.Set(node.id, {node.parent, node.module, node.address, node.exact != 0});
}

void Replay::Saw(uint64_t time_ns) {
  first_seen_ns_ = std::min(first_seen_ns_, time_ns);
  last_seen_ns_ = std::max(last_seen_ns_, time_ns);
}

Replay::Row Replay::RowOf(const StackKey& key) {
  // An event is often followed by one of the same stack.
  if (last_row_ < history_.stacks.size() && history_.stacks.Row(last_row_).first == key) {
    return last_row_;
  }
  last_row_ = history_.stacks.RowOf(key);
  return last_row_;
}

DomainTotals& Replay::TotalOf(Domain domain, MappingClass mapping) {
  return history_.totals[{domain, mapping}];
}

DomainTotals& Replay::HeapTotal() {
  if (heap_total_ == nullptr) heap_total_ = &TotalOf(Domain::kHeap);
  return *heap_total_;
}

void Replay::Born(Row row, uint64_t time_ns, uint64_t size) {
  if (row == kNoRow) return;
  StackStats& stats = StatsOf(row);
  AddTo(stats.live_bytes, size);
  ++stats.live_blocks;
  ++stats.allocations;
  AddTo(stats.bytes, size);
  stats.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
  stats.first_ns = std::min(stats.first_ns, time_ns);
  stats.last_ns = std::max(stats.last_ns, time_ns);
  history_.series.Add(row, time_ns, static_cast<int64_t>(size));
}

void Replay::Died(Row row, uint64_t born_ns, uint64_t time_ns, uint64_t size, bool last) {
  if (row == kNoRow) return;
  StackStats& stats = StatsOf(row);
  TakeFrom(stats.live_bytes, size);
  if (last) {
    TakeFrom(stats.live_blocks, 1);
    ++stats.frees;
    history_.death_ages.Add(row, time_ns > born_ns ? time_ns - born_ns : 0);
  }
  history_.series.Add(row, time_ns, static_cast<int64_t>(0 - size));
}

void Replay::Remove(Domain domain, const LiveBlock& block, uint64_t time_ns) {
  DomainTotals& total = domain == Domain::kHeap ? HeapTotal() : TotalOf(domain);
  RemoveBlock(total, block.size);
  if (IsGpu(domain)) RemoveBlock(history_.gpu.totals[{domain, block.device}], block.size);
  if (domain == Domain::kHeap) heap_floor_ = std::min(heap_floor_, total.live_bytes);
  Died(block.row, block.time_ns, time_ns, block.size, /*last=*/true);
}

void Replay::OnAlloc(const AllocRecord& alloc) {
  if (!InWindow(alloc.time_ns)) return;
  Saw(alloc.time_ns);
  const Row row =
      alloc.time_ns < options_.since_ns
          ? kNoRow
          : RowOf({alloc.stack, options_.by_thread ? alloc.thread : ThreadId{}, alloc.domain});
  uint64_t size = alloc.size;
  if (estimator_ && alloc.domain == Domain::kHeap) {
    size = estimator_->Bytes(alloc.size);
    estimator_->OnAlloc(alloc, row == kNoRow ? nullptr : &history_.stacks.Row(row).first);
  }
  const bool gpu = IsGpu(alloc.domain);
  const LiveBlock block = {alloc.address, size, alloc.time_ns, row,
                           gpu ? DeviceOf(alloc.stack) : kNoDevice};
  LiveBlocks& blocks = Blocks(alloc.domain);
  if (LiveBlock* const old = blocks.Find(alloc.address)) {
    ++history_.allocs_over_live;
    Remove(alloc.domain, *old, alloc.time_ns);
    *old = block;
  } else {
    blocks.Add(block);
  }
  AddBlock(alloc.domain == Domain::kHeap ? HeapTotal() : TotalOf(alloc.domain), size);
  if (gpu) AddBlock(history_.gpu.totals[{alloc.domain, block.device}], size);
  Born(row, alloc.time_ns, size);
}

void Replay::OnFree(const FreeRecord& free) {
  if (!InWindow(free.time_ns)) return;
  Saw(free.time_ns);
  if (estimator_ && free.domain == Domain::kHeap) estimator_->OnFree(free.address);
  LiveBlocks& blocks = Blocks(free.domain);
  LiveBlock* const block = blocks.Find(free.address);
  if (block == nullptr) {
    // A child frees what its parent had allocated before the fork: the trace cannot know those.
    if (!history_.born_by_fork) ++history_.unmatched_frees;
    return;
  }
  if (block->time_ns <= layout_.map_ns() && free.domain == Domain::kHeap) {
    layout_.Freed(free.address, block->size, block->row, free.time_ns);
  }
  Remove(free.domain, *block, free.time_ns);
  blocks.Remove(block);
}

// ---- Chunks of columns
//
// What OnAlloc and OnFree do with a map, for blocks of this chunk with their numbers.

void Replay::OnHeapEvents(const ColumnReader& columns) {
  if (!chunk_begun_) {
    chunk_begun_ = true;
    // No library draws blocks and writes columns.
    chunk_by_record_ = estimator_.has_value();
  }
  if (chunk_by_record_) return TraceVisitor::OnHeapEvents(columns);
  chunk_rows_.resize(size_t{columns.entries()} + 1, kNoRow);
  chunk_blocks_.resize(size_t{columns.blocks()} + 1);
  // One look at memory after the other would wait for each: all of a batch are asked for first.
  const absl::Span<const ColumnEvent> events(columns.events(), columns.count());
  for (const ColumnEvent& event : events) {
    if (event.block == 0 && event.kind == ColumnEvent::Kind::kFree) heap_.Prefetch(event.address);
  }
  changes_.clear();
  for (const ColumnEvent& event : events) {
    switch (event.kind) {
      case ColumnEvent::Kind::kAlloc:
        ChunkAlloc(columns, event);
        break;
      case ColumnEvent::Kind::kFree:
        if (event.block != 0) {
          ChunkFree(event);
        } else {
          FreeOfEarlierChunk(event);
        }
        break;
      case ColumnEvent::Kind::kReplaced:
        chunk_replaced_ = event.block;
        break;
    }
  }
  DomainTotals& heap = HeapTotal();
  for (const Change& change : changes_) {
    if (change.is_birth) {
      AddBlock(heap, change.size);
      Born(change.row, change.time_ns, change.size);
    } else {
      RemoveBlock(heap, change.size);
      heap_floor_ = std::min(heap_floor_, heap.live_bytes);
      Died(change.row, change.born_ns, change.time_ns, change.size, /*last=*/true);
    }
  }
}

inline void Replay::Add(const Change& change) {
  if (change.row != kNoRow) {
    __builtin_prefetch(&history_.stacks.Row(change.row), 1);
    history_.series.Prefetch(change.row);
  }
  changes_.push_back(change);
}

inline void Replay::FreeOfEarlierChunk(const ColumnEvent& event) {
  if (!InWindow(event.time_ns)) return;
  Saw(event.time_ns);
  LiveBlock* const block = heap_.Find(event.address);
  if (block == nullptr) {
    // A child frees what its parent had allocated before the fork: the trace cannot know those.
    if (!history_.born_by_fork) ++history_.unmatched_frees;
    return;
  }
  if (block->time_ns <= layout_.map_ns()) {
    layout_.Freed(event.address, block->size, block->row, event.time_ns);
  }
  Add({event.time_ns, block->time_ns, block->size, block->row, false});
  heap_.Remove(block);
}

Replay::Row Replay::ChunkRowOf(const ColumnReader& columns, const ColumnEvent& event) {
  const StackId stack{columns.entry(event.entry).stack};
  if (options_.by_thread) return RowOf({stack, ThreadId{event.thread}, Domain::kHeap});
  Row& row = chunk_rows_[event.entry];
  if (row == kNoRow) row = RowOf({stack, ThreadId{}, Domain::kHeap});
  return row;
}

inline void Replay::ChunkAlloc(const ColumnReader& columns, const ColumnEvent& event) {
  const uint32_t replaced = chunk_replaced_;
  chunk_replaced_ = 0;
  if (!InWindow(event.time_ns)) return;
  Saw(event.time_ns);
  if (replaced != 0 && chunk_blocks_[replaced].live) {
    ++history_.allocs_over_live;
    ChunkBlock& block = chunk_blocks_[replaced];
    block.live = false;
    Add({event.time_ns, block.time_ns, columns.block(replaced).size, block.row, false});
  }
  if (event.fresh) {
    if (LiveBlock* const block = heap_.Find(event.address)) {
      ++history_.allocs_over_live;
      Add({event.time_ns, block->time_ns, block->size, block->row, false});
      heap_.Remove(block);
    }
  }
  const Row row = event.time_ns < options_.since_ns ? kNoRow : ChunkRowOf(columns, event);
  chunk_blocks_[event.block] = {event.time_ns, row, true};
  Add({event.time_ns, event.time_ns, event.size, row, true});
}

inline void Replay::ChunkFree(const ColumnEvent& event) {
  if (!InWindow(event.time_ns)) return;
  Saw(event.time_ns);
  ChunkBlock& block = chunk_blocks_[event.block];
  if (!block.live) {
    if (!history_.born_by_fork) ++history_.unmatched_frees;
    return;
  }
  block.live = false;
  if (block.time_ns <= layout_.map_ns()) {
    layout_.Freed(event.address, event.size, block.row, event.time_ns);
  }
  Add({event.time_ns, block.time_ns, event.size, block.row, false});
}

void Replay::OnColumnsEnd(const ColumnReader& columns) {
  constexpr uint32_t kAhead = 16;
  for (uint32_t i = 1; i < chunk_blocks_.size(); ++i) {
    if (i + kAhead < chunk_blocks_.size() && chunk_blocks_[i + kAhead].live) {
      heap_.Prefetch(columns.block(i + kAhead).address);
    }
    const ChunkBlock& block = chunk_blocks_[i];
    if (!block.live) continue;
    const ColumnBlock& where = columns.block(i);
    const LiveBlock live = {where.address, where.size, block.time_ns, block.row, kNoDevice};
    if (LiveBlock* const old = heap_.Find(where.address)) {
      // Not by this library: an alloc at an address that was not called fresh.
      ++history_.allocs_over_live;
      Remove(Domain::kHeap, *old, block.time_ns);
      *old = live;
    } else {
      heap_.Add(live);
    }
  }
  chunk_blocks_.clear();
  chunk_rows_.clear();
  chunk_replaced_ = 0;
  chunk_begun_ = false;
}

void Replay::Unmapped(const Mapping& mapping, uint64_t bytes, bool last, uint64_t time_ns) {
  DomainTotals& total = TotalOf(mapping.key.domain, mapping.key.mapping);
  TakeFrom(total.live_bytes, bytes);
  if (last) {
    TakeFrom(total.live_blocks, 1);
    ++total.frees;
  }
  if (mapping.time_ns >= options_.since_ns) {
    Died(RowOf(mapping.key), mapping.time_ns, time_ns, bytes, last);
  }
}

void Replay::OnMap(const MapRecord& map) {
  if (!InWindow(map.time_ns)) return;
  Saw(map.time_ns);
  StackKey key;
  key.stack = map.stack;
  if (options_.by_thread) key.thread = map.thread;
  key.domain = map.function == AllocFunction::kBrk ? Domain::kBreak : Domain::kMapping;
  key.mapping = ClassOf(map);
  const uint64_t length = std::min(map.length, ~map.address);
  if (length == 0) return;
  mappings_.Map(map.address, length, {key, map.time_ns},
                [&](const Mapping& mapping, uint64_t bytes, bool last) {
                  Unmapped(mapping, bytes, last, map.time_ns);
                });
  AddBlock(TotalOf(key.domain, key.mapping), length);
  if (map.time_ns >= options_.since_ns) Born(RowOf(key), map.time_ns, length);
}

void Replay::OnUnmap(const UnmapRecord& unmap) {
  if (!InWindow(unmap.time_ns)) return;
  Saw(unmap.time_ns);
  mappings_.Unmap(unmap.address, unmap.length,
                  [&](const Mapping& mapping, uint64_t bytes, bool last) {
                    Unmapped(mapping, bytes, last, unmap.time_ns);
                  });
}

void Replay::OnCounters(const CountersRecord& counters) {
  // Records carry no time of their own; the last pair's will do.
  if (!InWindow(counters.last_ns)) return;
  Saw(counters.last_ns);
  FoldedPairs& folded = folded_[{static_cast<uint32_t>(counters.stack), counters.domain}];
  if (counters.last_ns < options_.since_ns) folded.before = counters;
  folded.now = counters;
}

void Replay::OnDropped(const DroppedRecord& dropped) {
  if (!InWindow(dropped.last_ns)) return;
  Saw(dropped.last_ns);
  CountersRecord pairs;
  pairs.pairs = dropped.pairs;
  pairs.bytes = dropped.bytes;
  AddPairs(TotalOf(dropped.domain), pairs);
  if (IsGpu(dropped.domain)) {
    AddPairs(history_.gpu.totals[{dropped.domain, DeviceOf(dropped.stack)}], pairs);
  }
  const bool before = dropped.last_ns < options_.since_ns;
  if (estimator_ && dropped.domain == Domain::kHeap) estimator_->OnDropped(dropped, before);
  if (before) return;
  StackStats& stats = StatsOf(RowOf({dropped.stack, ThreadId{}, dropped.domain}));
  AddTo(stats.allocations, dropped.pairs);
  AddTo(stats.frees, dropped.pairs);
  AddTo(stats.bytes, dropped.bytes);
  stats.first_ns = std::min(stats.first_ns, std::max(dropped.first_ns, options_.since_ns));
  stats.last_ns = std::max(stats.last_ns, dropped.last_ns);
}

void Replay::OnWeights(const WeightsRecord& weights) {
  if (!estimator_ || weights.domain != Domain::kHeap) return;
  // They follow the counters of the pairs that they weigh.
  const auto folded = folded_.find({static_cast<uint32_t>(weights.stack), weights.domain});
  if (folded == folded_.end()) return;
  estimator_->OnWeights(weights, folded->second.now.last_ns < options_.since_ns);
}

void Replay::OnSample(const SampleRecord& sample) {
  if (!InWindow(sample.time_ns)) return;
  Saw(sample.time_ns);
  const auto known = [](uint64_t gauge) { return gauge == kUnknownGauge ? 0 : gauge; };
  if (sample.arena != kUnknownGauge) glibc_malloc_ = true;
  DomainTotals& heap = TotalOf(Domain::kHeap);
  TimelinePoint point;
  point.sample = sample;
  // The events before a sample of a checkpoint are not there: what they said is in it.
  const bool in_checkpoint = sample.written_bytes != kUnknownGauge;
  point.heap_live_bytes = in_checkpoint ? sample.written_bytes : heap.live_bytes;
  AddTo(point.heap_live_bytes, known(sample.pooled_bytes));
  if (in_checkpoint && sample.mapped_bytes != kUnknownGauge) {
    point.mapped_live_bytes = sample.mapped_bytes;
  } else {
    point.mapped_live_bytes = history_.Total(Domain::kMapping).live_bytes;
    AddTo(point.mapped_live_bytes, history_.Total(Domain::kBreak).live_bytes);
  }

  // While the pool was at its greatest, at least the smallest sum of written blocks was live beside
  // it.
  uint64_t at_pool_peak = in_checkpoint ? 0 : heap_floor_;
  AddTo(at_pool_peak, known(sample.pooled_peak_bytes));
  heap.peak_bytes = std::max({heap.peak_bytes, point.heap_live_bytes, at_pool_peak});
  heap_floor_ = heap.live_bytes;

  if (history_.samples++ % stride_ == 0) {
    if (history_.timeline.size() == kMaxTimelinePoints) {
      for (size_t i = 0; 2 * i < kMaxTimelinePoints; ++i) {
        history_.timeline[i] = history_.timeline[2 * i];
      }
      history_.timeline.resize(kMaxTimelinePoints / 2);
      stride_ *= 2;
    }
    history_.timeline.push_back(point);
  }
  last_sample_ = point;
}

LayoutRecorder::RowOf Replay::MappingRows() {
  return [this](const Mapping& mapping) {
    return mapping.time_ns >= options_.since_ns ? RowOf(mapping.key) : kNoRow;
  };
}

void Replay::OnMemoryMap(const MemoryMapRecord& map) {
  if (!options_.keep_layout || !InWindow(map.time_ns)) return;
  layout_.OnMemoryMap(map, mappings_, MappingRows());
}

void Replay::OnLoss(const LossRecord& loss) { history_.losses[loss.kind] = loss.events; }

void Replay::OnMessage(const MessageRecord& message) {
  if (history_.messages.size() >= kMaxMessages) {
    ++history_.messages_dropped;
    return;
  }
  history_.messages.emplace_back(View(message.text));
}

uint32_t Replay::DeviceOf(StackId stack) const {
  const GpuPlace* const place = history_.PlaceOf(stack);
  return place == nullptr ? kNoDevice : place->device;
}

void Replay::OnGpuPlace(const GpuPlaceRecord& place) {
  if (place.id == 0 || place.id >= kMaxGpuPlaces) return;
  history_.gpu.places[place.id] = {std::string(View(place.function)), place.device, place.context,
                                   place.stream};
}

void Replay::OnGpuCapture(const GpuCaptureRecord& capture) {
  history_.gpu.capture = {capture.state, std::string(View(capture.reason)),
                          std::string(View(capture.where))};
}

void Replay::OnGpuFailure(const GpuFailureRecord& failure) {
  if (!InWindow(failure.time_ns)) return;
  Saw(failure.time_ns);
  ++(failure.kind == GpuFailureKind::kFree ? history_.gpu.failed_frees
                                           : history_.gpu.failed_allocations);
  if (failure.kind == GpuFailureKind::kFree) {
    ++failed_frees_[{static_cast<uint32_t>(failure.stack), failure.domain}];
  }
  if (history_.gpu.failures.size() >= kMaxGpuFailures) return;
  history_.gpu.failures.push_back(
      {failure.time_ns, failure.kind, failure.domain, failure.status, failure.size, failure.stack});
}

void Replay::OnGpuImplicit(const GpuImplicitRecord& implicit) {
  if (!InWindow(implicit.time_ns)) return;
  Saw(implicit.time_ns);
  ImplicitFrees& frees =
      history_.gpu.implicit[{static_cast<uint32_t>(implicit.stack), implicit.domain}];
  AddTo(frees.blocks, implicit.blocks);
  AddTo(frees.bytes, implicit.bytes);
}

void Replay::OnGpuLedger(const GpuLedgerRecord& ledger) {
  if (!InWindow(ledger.time_ns) || !IsGpu(ledger.domain)) return;
  Saw(ledger.time_ns);
  history_.gpu.ledgers[{ledger.domain, ledger.device}] = {ledger.time_ns, ledger.live_bytes,
                                                          ledger.live_blocks, ledger.peak_bytes};
}

void Replay::OnGpuSample(const GpuSampleRecord& sample) {
  if (!InWindow(sample.time_ns)) return;
  Saw(sample.time_ns);
  GpuPoint point;
  point.sample = sample;
  for (const auto& [key, ledger] : history_.gpu.ledgers) {
    const auto& [domain, device] = key;
    if (device != sample.device) continue;
    if (domain == Domain::kGraphExec) point.graphs = ledger.live_blocks;
    if (!IsOnDevice(domain) || domain == Domain::kManaged) continue;
    AddTo(point.traced_bytes, ledger.live_bytes);
  }
  std::vector<GpuPoint>& points = history_.gpu.points[sample.device];
  if (history_.gpu.points.size() > kMaxGpuDevices) {
    history_.gpu.points.erase(sample.device);
    return;
  }
  // Of many, every second one stays; the last one always.
  if (points.size() == kMaxTimelinePoints) {
    for (size_t i = 0; 2 * i < kMaxTimelinePoints; ++i) points[i] = points[2 * i];
    points.resize(kMaxTimelinePoints / 2);
  }
  points.push_back(point);
}

// cudaMalloc takes whole pages from the driver: large blocks have their own, small ones share them.
void Replay::EstimateRounding() {
  constexpr uint64_t kPage = 2 << 20;
  constexpr uint64_t kShared = 1 << 20;  // smaller blocks are taken to share pages
  const auto blocks = others_.find(Domain::kDevice);
  if (blocks == others_.end()) return;
  std::map<uint32_t, uint64_t> small;
  blocks->second.ForEach([&](const LiveBlock& block) {
    if (block.size < kShared) {
      AddTo(small[block.device], block.size);
    } else {
      AddTo(history_.gpu.rounding_bytes[block.device], (kPage - block.size % kPage) % kPage);
    }
  });
  for (const auto& [device, bytes] : small) {
    AddTo(history_.gpu.rounding_bytes[device], (kPage - bytes % kPage) % kPage);
  }
}

// The Free of a call that failed, and the Alloc that put its block back, were no calls.
void Replay::TakeBackFailedFrees() {
  for (const auto& [id, calls] : failed_frees_) {
    const auto& [stack, domain] = id;
    for (DomainTotals* const total :
         {&TotalOf(domain), &history_.gpu.totals[{domain, DeviceOf(StackId{stack})}]}) {
      TakeFrom(total->allocations, calls);
      TakeFrom(total->frees, calls);
    }
    const auto row = history_.stacks.find({StackId{stack}, ThreadId{}, domain});
    if (row == history_.stacks.end()) continue;
    TakeFrom(row->second.allocations, calls);
    TakeFrom(row->second.frees, calls);
  }
}

// Page-locked memory that the driver mapped by calls of ours is in its domain already.
void Replay::ForgetPinnedMappings() {
  const auto pinned = others_.find(Domain::kPinned);
  if (pinned == others_.end()) return;
  pinned->second.ForEach([&](const LiveBlock& block) {
    const uint64_t time_ns = std::max(block.time_ns, last_seen_ns_);
    mappings_.Unmap(block.address, std::min(block.size, ~block.address),
                    [&](const Mapping& mapping, uint64_t bytes, bool last) {
                      Unmapped(mapping, bytes, last, time_ns);
                    });
  });
}

void Replay::OnEnd(const EndRecord& end) {
  if (end.kind == EndKind::kSegment) return;  // the next one follows
  ended_ = true;
  end_ = end;
}

void Replay::FoldCounters() {
  for (const auto& [id, folded] : folded_) {
    const CountersRecord& now = folded.now;
    const CountersRecord& before = folded.before;
    AddPairs(TotalOf(now.domain), now);
    if (IsGpu(now.domain)) AddPairs(history_.gpu.totals[{now.domain, DeviceOf(now.stack)}], now);
    if (now.pairs <= before.pairs || now.last_ns < options_.since_ns) continue;
    StackStats& stats = StatsOf(RowOf({now.stack, ThreadId{}, now.domain}));
    const uint64_t pairs = now.pairs - before.pairs;
    AddTo(stats.allocations, pairs);
    AddTo(stats.frees, pairs);
    AddTo(stats.bytes, now.bytes - std::min(now.bytes, before.bytes));
    AddTo(stats.folded_pairs, pairs);
    AddTo(stats.folded_lifetime_ns,
          now.lifetime_ns - std::min(now.lifetime_ns, before.lifetime_ns));
    // The greatest sum may have been reached before the window.
    if (before.pairs == 0) stats.peak_bytes = std::max(stats.peak_bytes, now.peak_bytes);
    stats.first_ns = std::min(stats.first_ns, std::max(now.first_ns, options_.since_ns));
    stats.last_ns = std::max(stats.last_ns, now.last_ns);
  }
}

void Replay::LookAt(Row row, uint64_t time_ns, uint64_t size) {
  StackStats& stats = StatsOf(row);
  stats.smallest = std::min(stats.smallest, size);
  stats.largest = std::max(stats.largest, size);
  stats.oldest_ns = std::min(stats.oldest_ns, time_ns);
  stats.newest_ns = std::max(stats.newest_ns, time_ns);
  // One block's generation is its age.
  if (stats.live_blocks > 1) history_.series.AddSurvivor(row, time_ns, size);
}

void Replay::LookAtBlocks() {
  const auto look_at = [&](const LiveBlocks& blocks) {
    blocks.ForEach([&](const LiveBlock& block) {
      if (block.row != kNoRow) LookAt(block.row, block.time_ns, block.size);
    });
  };
  look_at(heap_);
  for (const auto& [domain, blocks] : others_) look_at(blocks);
}

void Replay::LookAtMappings() {
  mappings_.ForEach([&](const Mapping& mapping, uint64_t bytes, bool) {
    if (mapping.time_ns >= options_.since_ns) LookAt(RowOf(mapping.key), mapping.time_ns, bytes);
  });
}

void Replay::SettleEnd(const ReadSummary& summary) {
  if (first_seen_ns_ == kNever) first_seen_ns_ = 0;
  if (!history_.has_header) history_.start_ns = first_seen_ns_;
  history_.end_ns = ended_ && end_.time_ns != 0 ? end_.time_ns : last_seen_ns_;
  history_.end = ProcessEnd::kKilled;
  if (!ended_) {
    if (summary.has_journal && summary.owner_alive) history_.end = ProcessEnd::kRunning;
    return;
  }
  switch (end_.kind) {
    case EndKind::kExited:
      history_.end = ProcessEnd::kExited;
      break;
    case EndKind::kExec:
      history_.end = ProcessEnd::kExec;
      break;
    case EndKind::kSegment:
      break;
    case EndKind::kStopped:
      history_.end = ProcessEnd::kStopped;
      break;
  }
}

void Replay::SettleAxes() {
  const uint64_t from = std::max(history_.start_ns, options_.since_ns);
  const uint64_t to = std::max(from, std::min(history_.end_ns, options_.until_ns));
  history_.series.ReachTo(to);
  const auto& times = options_.request_times;
  history_.requests = static_cast<uint64_t>(std::upper_bound(times.begin(), times.end(), to) -
                                            std::lower_bound(times.begin(), times.end(), from));
}

void Replay::SettleLayout() {
  static_assert(kNoRow == kNoKey);
  if (!options_.keep_layout || layout_.map_ns() == 0) return;
  std::vector<LaidBlock> live;
  live.reserve(heap_.size());
  heap_.ForEach([&](const LiveBlock& block) {
    if (block.time_ns <= layout_.map_ns()) live.push_back({block.address, block.size, block.row});
  });
  heap_ = LiveBlocks();
  history_.layout = layout_.Finish(page_bytes_, std::move(live), mappings_, MappingRows());
  if (!history_.layout) return;
  history_.layout->glibc_malloc = glibc_malloc_;
  for (const auto& [id, module] : history_.modules) {
    history_.layout->modules.push_back({module.begin, module.end, module.path});
  }
  std::sort(history_.layout->modules.begin(), history_.layout->modules.end(),
            [](const LaidModule& a, const LaidModule& b) {
              return std::tie(a.begin, a.end, a.path) < std::tie(b.begin, b.end, b.path);
            });
  history_.layout_keys.reserve(history_.stacks.size());
  for (const auto& [key, stats] : history_.stacks) history_.layout_keys.push_back(key);
}

ProcessHistory Replay::Finish(const ReadSummary& summary) {
  SettleEnd(summary);
  SettleAxes();
  FoldCounters();
  TakeBackFailedFrees();
  EstimateRounding();
  LookAtBlocks();
  SettleLayout();
  ForgetPinnedMappings();
  LookAtMappings();
  if (history_.samples > 0 &&
      history_.timeline.back().sample.time_ns != last_sample_.sample.time_ns) {
    history_.timeline.push_back(last_sample_);
  }
  for (const auto& [key, stats] : history_.stacks) {
    history_.last_allocation_ns = std::max(history_.last_allocation_ns, stats.last_ns);
  }
  if (estimator_) estimator_->Apply(history_);
  history_.summary = summary;
  return std::move(history_);
}

void MarkExecs(std::vector<ProcessHistory>& histories) {
  std::vector<ProcessHistory*> order;
  for (ProcessHistory& history : histories) {
    if (history.has_header) order.push_back(&history);
  }
  std::sort(order.begin(), order.end(), [](const ProcessHistory* a, const ProcessHistory* b) {
    return std::tie(a->pid, a->process_start, a->start_ns) <
           std::tie(b->pid, b->process_start, b->start_ns);
  });
  for (size_t i = 1; i < order.size(); ++i) {
    ProcessHistory& before = *order[i - 1];
    const ProcessHistory& after = *order[i];
    const bool same = before.pid == after.pid && before.process_start == after.process_start &&
                      after.process_start != 0;
    if (same) before.end = ProcessEnd::kExec;
  }
}

}  // namespace ollamatrace
