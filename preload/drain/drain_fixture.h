#ifndef OLLAMATRACE_PRELOAD_DRAIN_DRAIN_FIXTURE_H_
#define OLLAMATRACE_PRELOAD_DRAIN_DRAIN_FIXTURE_H_

// For tests of the drain: a journal with producers as the hooks are, and a replay of the trace.

#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "formats/sample_weight.h"
#include "formats/segment_files.h"
#include "formats/trace_reader.h"
#include "gtest/gtest.h"
#include "preload/base/clock.h"
#include "preload/drain/drain.h"
#include "preload/drain/drain_state.h"
#include "preload/journal/journal.h"
#include "preload/journal/own_file.h"

namespace ollamatrace {

// Sums of weights.
struct Weights {
  uint64_t blocks = 0, bytes = 0, blocks_variance = 0, bytes_variance = 0;

  template <typename Weight>
  Weights& operator+=(const Weight& other) {
    blocks += other.blocks;
    bytes += other.bytes;
    blocks_variance += other.blocks_variance;
    bytes_variance += other.bytes_variance;
    return *this;
  }
  bool operator==(const Weights&) const = default;
};

// What a trace says in the end.
class Replay : public TraceVisitor {
 public:
  struct Block {
    uint64_t size;
    uint32_t stack;
    uint32_t thread;
    uint64_t time_ns;
  };
  using Key = std::pair<uint8_t, uint64_t>;  // domain, address

  std::map<Key, Block> live;
  std::map<uint64_t, uint32_t> pages;  // mapped pages and their stacks
  std::map<std::pair<uint32_t, uint8_t>, CountersRecord> counters;
  std::map<std::pair<uint32_t, uint8_t>, WeightsRecord> weights;
  Weights alloc_weights;  // of the heap's blocks in `allocs`
  uint64_t sample_bytes = 0;
  std::map<std::pair<uint32_t, uint8_t>, DroppedRecord> dropped;
  std::map<int, uint64_t> losses;
  std::map<uint32_t, std::string> threads;
  std::set<uint32_t> nodes;
  std::vector<SampleRecord> samples;
  std::vector<std::string> messages;
  std::vector<uint32_t> ended_threads;
  std::vector<std::string> events;  // "alloc 1000 16", ... in the order of the trace
  uint64_t headers = 0, ends = 0;
  uint32_t segment = 0;
  uint64_t allocs = 0, frees = 0, alloc_bytes = 0, maps = 0, unmaps = 0;
  uint64_t unknown_frees = 0, allocs_over_live = 0, undefined_stacks = 0, nodes_twice = 0;
  bool keep_events = false;

  void OnHeader(const HeaderRecord& header) override {
    ++headers;
    sample_bytes = header.sample_bytes;
    segment = header.segment;
  }
  void OnNode(const NodeRecord& node) override {
    if (!nodes.insert(static_cast<uint32_t>(node.id)).second) ++nodes_twice;
    Use(node.parent);
  }
  void OnAlloc(const AllocRecord& alloc) override {
    Use(alloc.stack);
    ++allocs;
    alloc_bytes += alloc.size;
    if (alloc.domain == Domain::kHeap) alloc_weights += WeightOf(alloc.size, sample_bytes);
    const Key key = {static_cast<uint8_t>(alloc.domain), alloc.address};
    const Block block = {alloc.size, static_cast<uint32_t>(alloc.stack),
                         static_cast<uint32_t>(alloc.thread), alloc.time_ns};
    if (!live.insert({key, block}).second) {
      ++allocs_over_live;
      live[key] = block;
    }
    Note("alloc", alloc.address, alloc.size);
  }
  void OnFree(const FreeRecord& free) override {
    ++frees;
    if (live.erase({static_cast<uint8_t>(free.domain), free.address}) == 0) ++unknown_frees;
    Note("free", free.address, 0);
  }
  void OnMap(const MapRecord& map) override {
    Use(map.stack);
    ++maps;
    for (uint64_t page = 0; page < map.length / 4096; ++page) {
      pages[map.address / 4096 + page] = static_cast<uint32_t>(map.stack);
    }
    Note("map", map.address, map.length);
  }
  void OnUnmap(const UnmapRecord& unmap) override {
    ++unmaps;
    for (uint64_t page = 0; page < unmap.length / 4096; ++page) {
      pages.erase(unmap.address / 4096 + page);
    }
    Note("unmap", unmap.address, unmap.length);
  }
  void OnCounters(const CountersRecord& record) override {
    Use(record.stack);
    counters[{static_cast<uint32_t>(record.stack), static_cast<uint8_t>(record.domain)}] = record;
  }
  void OnWeights(const WeightsRecord& record) override {
    Use(record.stack);
    weights[{static_cast<uint32_t>(record.stack), static_cast<uint8_t>(record.domain)}] = record;
  }
  void OnDropped(const DroppedRecord& record) override {
    Use(record.stack);
    dropped[{static_cast<uint32_t>(record.stack), static_cast<uint8_t>(record.domain)}] = record;
  }
  void OnThread(const ThreadRecord& thread) override {
    threads[static_cast<uint32_t>(thread.id)] = std::string(thread.name.data, thread.name.size);
  }
  void OnThreadEnd(const ThreadEndRecord& end) override {
    ended_threads.push_back(static_cast<uint32_t>(end.id));
  }
  void OnLoss(const LossRecord& loss) override {
    losses[static_cast<int>(loss.kind)] = loss.events;
  }
  void OnSample(const SampleRecord& sample) override { samples.push_back(sample); }
  void OnMessage(const MessageRecord& message) override {
    messages.emplace_back(message.text.data, message.text.size);
  }
  void OnEnd(const EndRecord& end) override {
    if (end.kind != EndKind::kSegment) ++ends;
  }

  uint64_t Pairs(Domain domain) const {
    uint64_t pairs = 0;
    for (const auto& [key, record] : counters) {
      if (record.domain == domain) pairs += record.pairs;
    }
    for (const auto& [key, record] : dropped) {
      if (record.domain == domain) pairs += record.pairs;
    }
    return pairs;
  }
  // Of the blocks in the trace and of those that were folded.
  Weights AllWeights() const {
    Weights all = alloc_weights;
    for (const auto& [key, record] : weights) all += record;
    for (const auto& [key, record] : dropped) {
      all += Weights{record.weight_blocks, record.weight_bytes, record.weight_blocks_variance,
                     record.weight_bytes_variance};
    }
    return all;
  }
  uint64_t PairBytes(Domain domain) const {
    uint64_t bytes = 0;
    for (const auto& [key, record] : counters) {
      if (record.domain == domain) bytes += record.bytes;
    }
    for (const auto& [key, record] : dropped) {
      if (record.domain == domain) bytes += record.bytes;
    }
    return bytes;
  }

 private:
  void Use(StackId stack) {
    if (static_cast<uint32_t>(stack) != 0 && nodes.count(static_cast<uint32_t>(stack)) == 0) {
      ++undefined_stacks;
    }
  }
  void Note(const char* what, uint64_t address, uint64_t size) {
    if (!keep_events) return;
    char text[80];
    snprintf(text, sizeof text, "%s %llx %llu", what, static_cast<unsigned long long>(address),
             static_cast<unsigned long long>(size));
    events.push_back(text);
  }
};

struct ProcessOptions {
  Mode mode = Mode::kSurvivors;
  uint64_t sample_bytes = 0;
  uint32_t pool_capacity = 1u << 16;
  uint32_t max_counters = 1u << 16;
  uint32_t first_seq = 0;  // of every shard
  int level = 1;
  uint64_t max_bytes = 0;
};

// A traced process: its journal, its trace, its drain.
class Process {
 public:
  explicit Process(const ProcessOptions& options = {}) {
    static int number = 0;
    const std::string base =
        testing::TempDir() + "/process" + std::to_string(getpid()) + "." + std::to_string(++number);
    trace_path = base + ".zst";
    journal_path = base + ".journal";
    EXPECT_EQ(CreateJournal(&journal, journal_path.c_str()), 0);
    EXPECT_EQ(CreateOwnFile(&trace, trace_path.c_str()), 0);
    JournalHeader* const header = journal.header();
    memcpy(header->magic, kJournalMagic, sizeof header->magic);
    header->version = kJournalVersion;
    header->mode = static_cast<uint32_t>(options.mode);
    header->pool_capacity = options.pool_capacity;
    header->next_node.store(1);
    HeaderRecord record;
    record.pid = 4711;
    record.start_ns = MonotonicNs();
    record.mode = options.mode;
    record.sample_bytes = options.sample_bytes;
    EXPECT_TRUE(ReserveJournal(&journal, kIdentityOffset, kIdentityBytes));
    header->identity_bytes = static_cast<uint32_t>(EncodeHeader(record, journal.identity()));
    EXPECT_TRUE(ReserveJournal(&journal, kRingsOffset, kMaxRings * sizeof(RingEntry)));
    DrainOptions drain_options;
    drain_options.journal = &journal;
    drain_options.trace = &trace;
    drain_options.mode = options.mode;
    drain_options.sample_bytes = options.sample_bytes;
    drain_options.level = options.level;
    drain_options.max_bytes = options.max_bytes;
    drain_options.max_counters = options.max_counters;
    const size_t bytes = DrainBytes(drain_options);
    memory_bytes_ = bytes;
    memory_ = sys::MmapPrivate(bytes, MAP_NORESERVE);
    drain = CreateDrain(memory_, drain_options);
    EXPECT_NE(drain, nullptr);
    for (uint32_t shard = 0; shard < kShards; ++shard) {
      counters[shard].store(options.first_seq);
      drain->expected[shard] = options.first_seq;
    }
    header->state.store(static_cast<uint32_t>(JournalState::kActive));
  }
  ~Process() {
    sys::Munmap(memory_, memory_bytes_);
    CloseJournal(&journal, true);
    CloseOwnFile(&trace, true);
    const std::string base = trace_path.substr(0, trace_path.size() - 4);
    for (const auto& [number, path] : FindSegmentFiles(base).segments) unlink(path.c_str());
    for (const auto& [number, path] : FindSegmentFiles(base).checkpoints) unlink(path.c_str());
  }
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  uint32_t Node(uint64_t address, uint32_t parent) {
    std::lock_guard<std::mutex> hold(define_lock);
    const uint32_t id = journal.header()->next_node.load();
    EXPECT_TRUE(ReserveJournal(&journal, kNodesOffset + id * sizeof(StackNode), sizeof(StackNode)));
    *journal.node(id) = {address, parent, 0};
    journal.header()->next_node.store(id + 1, std::memory_order_release);
    return id;
  }

  // A stack of that many frames of its own.
  uint32_t Stack(int depth = 3) {
    uint32_t id = 0;
    for (int i = 0; i < depth; ++i) id = Node(0x400000 + 16 * next_address_++, id);
    return id;
  }

  bool Define(const std::string& message) {
    std::lock_guard<std::mutex> hold(define_lock);
    uint8_t record[kMessageBytes];
    const uint32_t size = static_cast<uint32_t>(
        EncodeMessage({MonotonicNs(), {message.data(), message.size()}}, record));
    const uint64_t head = journal.header()->definitions_head.load();
    const uint64_t released =
        journal.header()->definitions_released.load(std::memory_order_acquire);
    if (head + 4 + size - released > kDefinitionsBytes) return false;
    for (uint32_t i = 0; i < 4; ++i) {
      journal.definitions()[(head + i) % kDefinitionsBytes] = static_cast<uint8_t>(size >> (8 * i));
    }
    for (uint32_t i = 0; i < size; ++i) {
      journal.definitions()[(head + 4 + i) % kDefinitionsBytes] = record[i];
    }
    journal.header()->definitions_head.store(head + 4 + size, std::memory_order_release);
    return true;
  }

  DrainStatus Batch() {
    std::lock_guard<std::mutex> hold(drain_lock);
    return DrainBatch(drain, true);
  }
  // Until nothing is left to do, in quiet rings either.
  void DrainAll() {
    journal.header()->scan_all.store(1);
    while (Batch() == DrainStatus::kProgress) {
    }
  }

  void Read(Replay* replay) {
    const absl::StatusOr<ReadSummary> summary = ReadTrace(trace_path, *replay);
    ASSERT_TRUE(summary.ok()) << summary.status();
    EXPECT_EQ(summary->damaged_chunks, 0u);
    EXPECT_EQ(summary->dropped_bytes, 0u);
    EXPECT_EQ(summary->unknown_records, 0u);
    EXPECT_EQ(replay->undefined_stacks, 0u);
    // Each segment has the nodes that it needs, the journal all.
    if (summary->files.size() == 1 && !summary->has_journal) {
      EXPECT_EQ(replay->nodes_twice, 0u);
    }
  }
  // Finishes, and reads the trace alone.
  void FinishAndRead(Replay* replay) {
    ASSERT_EQ(DrainFinish(drain, EndKind::kExited), DrainStatus::kIdle);
    EXPECT_EQ(journal.header()->state.load(), static_cast<uint32_t>(JournalState::kFinished));
    CloseJournal(&journal, true);
    Read(replay);
    EXPECT_EQ(replay->headers, 1u);
    EXPECT_EQ(replay->ends, 1u);
  }

  Journal journal;
  OwnFile trace;
  Drain* drain = nullptr;
  std::string trace_path, journal_path;
  std::atomic<uint32_t> counters[kShards];
  std::mutex drain_lock;  // the session's
  std::mutex define_lock;

 private:
  void* memory_ = nullptr;
  size_t memory_bytes_ = 0;
  uint64_t next_address_ = 0;
};

// A thread of the process, as far as the drain sees it.
class Producer {
 public:
  Producer(Process* process, uint32_t ring, uint32_t thread) : process_(process), ring_(ring) {
    EXPECT_TRUE(ReserveJournal(&process->journal, RingDataOffset(ring),
                               RingCapacity(ring) * sizeof(Event)));
    entry_ = process->journal.ring(ring);
    entry_->thread = thread;
    entry_->tid = 1000 + thread;
    entry_->state.store(static_cast<uint32_t>(RingState::kAttached), std::memory_order_release);
    std::atomic<uint32_t>* const used = &process->journal.header()->rings_used;
    uint32_t before = used->load();
    while (before <= ring && !used->compare_exchange_weak(before, ring + 1)) {
    }
  }

  bool HasRoom() const {
    return entry_->head.load(std::memory_order_relaxed) -
               entry_->released.load(std::memory_order_acquire) <
           RingCapacity(ring_);
  }
  void WaitForRoom() {
    while (!HasRoom()) {
      process_->journal.header()->scan_all.store(1, std::memory_order_release);
      process_->Batch();
    }
  }

  // Takes a place in the order, and doesn't fill it yet.
  Event Begin(Event event) {
    WaitForRoom();
    const uint32_t shard = ShardOf(event);
    entry_->pending_shard.store(shard + 1, std::memory_order_release);
    event.seq = process_->counters[shard].fetch_add(1, std::memory_order_acq_rel);
    return event;
  }
  void Publish(const Event& event) {
    const uint64_t head = entry_->head.load(std::memory_order_relaxed);
    process_->journal.ring_events(ring_)[head & (RingCapacity(ring_) - 1)] = event;
    entry_->head.store(head + 1, std::memory_order_release);
    entry_->pending_shard.store(0, std::memory_order_release);
  }
  void Emit(const Event& event) { Publish(Begin(event)); }

  static Event Make(EventKind kind, uint64_t address, uint64_t size = 0, uint32_t stack = 0,
                    AllocFunction function = AllocFunction::kMalloc, uint8_t attributes = 0) {
    return {address, PackEvent(kind, function, attributes, size), ReadTicks(), stack, 0};
  }
  void Alloc(uint64_t address, uint64_t size, uint32_t stack) {
    Emit(Make(EventKind::kAlloc, address, size, stack));
  }
  void Free(uint64_t address) { Emit(Make(EventKind::kFree, address)); }
  void ReallocFree(uint64_t address) { Emit(Make(EventKind::kReallocFree, address)); }
  void ReallocDone(uint64_t address, uint64_t size, uint32_t stack) {
    Emit(Make(EventKind::kReallocDone, address, size, stack, AllocFunction::kRealloc));
  }
  void ReallocFailed(uint64_t address) { Emit(Make(EventKind::kReallocFailed, address)); }
  void ReallocFreed(uint64_t address) { Emit(Make(EventKind::kReallocFreed, address)); }
  void Map(uint64_t address, uint64_t length, uint32_t stack, uint8_t attributes = 3,
           AllocFunction function = AllocFunction::kMmap) {
    Emit(Make(EventKind::kMap, address, length, stack, function, attributes));
  }
  void Unmap(uint64_t address, uint64_t length) { Emit(Make(EventKind::kUnmap, address, length)); }
  void UnmapFailed(uint64_t address, uint64_t length) {
    Emit(Make(EventKind::kUnmapFailed, address, length));
  }
  // The thread ends.
  void Detach() {
    entry_->state.store(static_cast<uint32_t>(RingState::kOrphaned), std::memory_order_release);
  }
  // The thread's signal handler left the hook: its place is never filled.
  void Abandon() { entry_->pending_shard.store(0, std::memory_order_release); }

  RingEntry* entry() { return entry_; }

 private:
  Process* process_;
  uint32_t ring_;
  RingEntry* entry_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_DRAIN_FIXTURE_H_
