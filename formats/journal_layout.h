// The journal: what a traced process keeps in a shared file mapping beside its trace, so that
// nothing is lost when it is killed. Written by libollamatrace.so, read (live or left behind) by
// formats/journal_reader. Both sides include this file; it depends on the standard headers only.
//
// A journal is a private matter of one version of the library and the analyzer: kJournalVersion is
// raised with every change, and a reader refuses other versions by name.
//
// Crash safety. SIGKILL keeps every store that was made to the mapping, in program order. Each ring
// has one producer: an event is written first, then published by storing the ring's head. All other
// shared state is changed by the drain, in batches: before a word is changed, its old value is
// pushed onto the undo log; the end of a batch empties the log. Whoever finds a log that isn't
// empty applies it from its end to its beginning and has the state of before the batch. Exempt from
// undo are bytes that nothing refers to yet: staged bytes beyond staged_bytes, a block entry whose
// address is 0 (only the address needs undo), and what producers alone append (nodes, definitions).
#ifndef OLLAMATRACE_FORMATS_JOURNAL_LAYOUT_H_
#define OLLAMATRACE_FORMATS_JOURNAL_LAYOUT_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace {

inline constexpr char kJournalMagic[8] = {'o', 'l', 'l', 'a', 'm', 'j', 'n', 'l'};
inline constexpr uint32_t kJournalVersion = 3;

// ---- Events, as a hook puts them into its thread's ring ----------------------------------------

// Of one thread, the event after a kReallocFree or a kUnmap says how the call went: the matching
// outcome, or any other event for "it went through".
enum class EventKind : uint8_t {
  kNothing = 0,        // fills a place in the order
  kAlloc = 1,          // after the real call
  kFree = 2,           // before the real call
  kReallocFree = 3,    // before the real realloc: the old block may be gone from here on
  kReallocDone = 4,    // the new block (address, size, stack), in the new address's shard
  kReallocFailed = 5,  // the old block (address) lives on
  kReallocFreed = 6,   // the old block (address) was freed and there is no new one
  kMap = 7,            // after the real call: mmap, mremap's new range, growth of the break
  kUnmap = 8,          // before the real call: munmap, mremap's old range, shrinking of the break
  kUnmapFailed = 9,    // the range (address, size) of the thread's last kUnmap is still there
};

// Attribute bits of a kMap event: PROT_* in 0-2, kMapFixed, MapKind in 4-7.
inline constexpr uint8_t kMapFixed = 8;  // may replace what was mapped there (MAP_FIXED)

struct Event {
  uint64_t address;
  uint64_t packed;  // see PackEvent
  uint64_t ticks;  // taken after the real call (alloc, map) or right before it (free, unmap); where
                   // heap events come thick, up to 7 of a thread have the time of the first
  uint32_t stack;  // StackId; 0: none
  uint32_t seq;    // place in the order of its shard
};
static_assert(sizeof(Event) == 32);

inline constexpr uint64_t kMaxEventSize = (uint64_t{1} << 48) - 1;

// `attributes`: the Domain for heap events, MapKind << 4 | kMapFixed | PROT_* for kMap.
inline constexpr uint64_t PackEvent(EventKind kind, AllocFunction function, uint8_t attributes,
                                    uint64_t size) {
  return (size < kMaxEventSize ? size : kMaxEventSize) | static_cast<uint64_t>(kind) << 48 |
         static_cast<uint64_t>(function) << 52 | static_cast<uint64_t>(attributes) << 56;
}
inline constexpr uint64_t EventSize(uint64_t packed) { return packed & kMaxEventSize; }
inline constexpr EventKind EventKindOf(uint64_t packed) {
  return static_cast<EventKind>(packed >> 48 & 15);
}
inline constexpr AllocFunction EventFunction(uint64_t packed) {
  return static_cast<AllocFunction>(packed >> 52 & 15);
}
inline constexpr uint8_t EventAttributes(uint64_t packed) {
  return static_cast<uint8_t>(packed >> 56);
}

// ---- Order -------------------------------------------------------------------------------------

// Events of one shard are numbered 0, 1, 2, ... (u32, wrapping). All events of one address are in
// one shard, and all mapping events (kMap, kUnmap, kUnmapFailed) are in one shard of their own.
inline constexpr uint32_t kHeapShards = 4096;
inline constexpr uint32_t kMappingShard = kHeapShards;
inline constexpr uint32_t kShards = kHeapShards + 1;

// Blocks of one page share a shard, so that the counters that a thread touches stay in its cache.
inline uint32_t HeapShard(uint64_t address) {
  return static_cast<uint32_t>((address >> 12) * UINT64_C(0x9E3779B97F4A7C15) >> 52);
}
inline uint32_t ShardOf(const Event& event) {
  switch (EventKindOf(event.packed)) {
    case EventKind::kMap:
    case EventKind::kUnmap:
    case EventKind::kUnmapFailed:
      return kMappingShard;
    default:
      return HeapShard(event.address);
  }
}

// ---- Time --------------------------------------------------------------------------------------

// Two moments at which ticks and CLOCK_MONOTONIC were read together: the trace's start and a recent
// one. Equal moments mean that a tick is a nanosecond.
struct TimeAnchors {
  uint64_t ticks0, ns0, ticks1, ns1;
};

class TickScale {
 public:
  TickScale() = default;
  explicit TickScale(const TimeAnchors& anchors)
      : ticks_(anchors.ticks1),
        ns_(anchors.ns1),
        slope_(anchors.ticks1 > anchors.ticks0 && anchors.ns1 > anchors.ns0
                   ? static_cast<double>(anchors.ns1 - anchors.ns0) /
                         static_cast<double>(anchors.ticks1 - anchors.ticks0)
                   : 1.0) {}
  // Differences of more than 2^62 ns come from damaged journals only; they saturate.
  uint64_t ToNs(uint64_t ticks) const {
    const double ns = static_cast<double>(static_cast<int64_t>(ticks - ticks_)) * slope_;
    if (!(ns > -4e18 && ns < 4e18)) return ns_;
    return ns_ + static_cast<uint64_t>(static_cast<int64_t>(ns));
  }

 private:
  uint64_t ticks_ = 0, ns_ = 0;
  double slope_ = 1.0;
};

// ---- Sections ----------------------------------------------------------------------------------

struct StackNode {
  uint64_t address;
  uint32_t parent;  // StackId; 0: outermost
  uint32_t module;  // ModuleId; the top bit says that the address is exact, not a return address
};
static_assert(sizeof(StackNode) == 16);
inline constexpr uint32_t kNodeExact = 1u << 31;

enum class RingState : uint32_t {
  kFree = 0,      // nobody's, empty
  kAttached = 1,  // a thread writes to it
  kOrphaned = 2,  // its thread is gone; free again when drained
};

struct RingEntry {
  // The producer's line.
  std::atomic<uint64_t> head;  // events ever published
  std::atomic<uint32_t> state;
  uint32_t thread;  // ThreadId
  uint32_t tid;
  // 1 + the shard in which the thread is taking a place, set before the place is taken and cleared
  // after the event is published (both stores are releases). A place that nobody is filling was
  // abandoned (a signal handler that never returned).
  std::atomic<uint32_t> pending_shard;
  // Events that the producer may overwrite: stored by the drain after the batch that consumed them
  // is committed. Producers compare with this, never with tail: there is room while
  // head - released < RingCapacity(ring). The room is looked for before a place is taken.
  std::atomic<uint64_t> released;
  uint32_t unused0[8];
  // The drain's line.
  uint64_t tail;           // events ever consumed; changed in batches
  uint64_t limbo_address;  // of the block between kReallocFree and its outcome; 0: none
  uint64_t limbo_ns;
  uint64_t limbo_domain;
  uint64_t unused1[4];
};
static_assert(sizeof(RingEntry) == 128);

// A live block that the drain holds. Free when address is 0.
struct BlockEntry {
  uint64_t address;  // xor Domain << 56: blocks of two domains may have one address
  uint64_t packed;   // size:48, AllocFunction:4, flags:4, Domain:8
  uint64_t time_ns;
  uint32_t stack;
  uint32_t thread;
};
static_assert(sizeof(BlockEntry) == 32);
inline constexpr uint64_t kBlockLimbo = uint64_t{1} << 52;  // between kReallocFree and its outcome
inline constexpr uint64_t kBlockUnknown = uint64_t{1}
                                          << 53;  // written to the trace before; a mere mark

// Pairs folded, of one stack and domain. (Mode sample: live_bytes and peak_bytes are estimates,
// sums of SampleWeight::bytes. The others count what was drawn.)
struct CounterSlot {
  uint32_t stack;
  uint32_t domain;
  uint64_t pairs, bytes, lifetime_ns;
  uint64_t live_bytes, peak_bytes;
  uint64_t first_ns, last_ns;
};
static_assert(sizeof(CounterSlot) == 64);

// Mode sample: the weights of the pairs of the CounterSlot with this stack and the domain without
// kWeightSlot. It lies among the counters.
struct WeightSlot {
  uint32_t stack;
  uint32_t domain;                                          // with kWeightSlot
  uint64_t blocks, bytes, blocks_variance, bytes_variance;  // as in WeightsRecord
  uint64_t unused[3];
};
static_assert(sizeof(WeightSlot) == sizeof(CounterSlot));
inline constexpr uint32_t kWeightSlot = 1u << 31;

// A mapping that isn't in the trace yet. Free when length is 0.
struct MappingEntry {
  uint64_t length;
  uint64_t address;
  uint64_t time_ns;
  uint32_t stack;
  uint32_t thread;
  uint32_t function;  // AllocFunction
  uint32_t protection;
  uint32_t kind;
  uint32_t unused;
};
static_assert(sizeof(MappingEntry) == 48);

// An unmap whose outcome is not known yet. Free when length is 0.
struct PendingUnmap {
  uint64_t length;
  uint64_t address;
  uint64_t time_ns;
  uint32_t thread;
  uint32_t ring;  // whose next event tells the outcome
};
static_assert(sizeof(PendingUnmap) == 32);

enum class JournalState : uint32_t {
  kUnborn = 0,  // being created
  kActive = 1,
  kFinished = 2,  // everything is in the trace; the file is about to be removed
  kStopped = 3,   // recording ended early (disk full); what is here is part of the trace
};

// Private memory of the library's own, listed in its own memory: what the process holds for it is
// told apart from what it holds for itself. Nothing of it is ever unmapped.
struct OwnMapping {
  std::atomic<uint64_t> begin;  // 0: being added
  uint64_t length;
};

// More is not listed: one for each of 4096 threads, and some.
inline constexpr uint32_t kMaxOwnMappings = 4160;

struct OwnMappings {
  std::atomic<uint32_t> used;  // entries; may be more than there are
  uint32_t unused;
  OwnMapping list[kMaxOwnMappings];
};

inline constexpr int kLossKinds = 6;  // values of LossKind

inline constexpr uint64_t kPauseNs = 20'000'000;  // the longest pause that a reader may ask for

struct JournalHeader {
  char magic[8];
  uint32_t version;
  std::atomic<uint32_t> state;  // JournalState
  uint32_t pid;
  uint32_t mode;  // Mode
  uint64_t process_start;
  uint64_t start_ns;
  uint64_t wall_ns;
  TimeAnchors anchors;      // the drain's
  uint32_t identity_bytes;  // of the encoded Header record in section identity
  uint32_t unused0;
  uint32_t pool_capacity;  // entries; at most kMaxBlocks
  uint32_t unused1;
  uint64_t own_mappings;  // address of the OwnMappings in the process
  uint64_t unused2[4];

  // The drain's line: changed in batches.
  alignas(64) std::atomic<uint64_t> commit_sequence;  // odd during a batch
  std::atomic<uint64_t> undo_count;                   // words in the undo log
  uint64_t trace_end;                                 // bytes of the trace file that are committed
  uint32_t staged_bytes;  // bytes in the staging section that are committed
  uint32_t next_chunk;    // number of the next chunk
  uint64_t definitions_tail;
  uint32_t pool_used;      // entries below this may be in use
  uint32_t counters_used;  // slots below this are in use
  // Bytes of the definitions ring that may be overwritten: there is room for `n` bytes while
  // definitions_head + n - definitions_released <= kDefinitionsBytes. (definitions_tail may be
  // taken back by an undo; this follows it after the commit.)
  std::atomic<uint64_t> definitions_released;
  // The files of the trace: its segments from first_segment to `segment`, to which trace_end
  // refers; before them, when first_segment is not 0, the checkpoint of that number.
  uint32_t segment;
  uint32_t first_segment;

  // Written by whoever attaches, defines or interns.
  alignas(64) std::atomic<uint64_t> definitions_head;
  std::atomic<uint32_t> next_node;   // nodes [1, next_node) are defined
  std::atomic<uint32_t> rings_used;  // ring entries below this may be in use
  std::atomic<uint32_t> next_thread;
  // Set to 1 by a producer that waits for room in its ring, before it drains or wakes the drain:
  // the drain looks at quiet rings only now and then, and with the next batch when this is set.
  std::atomic<uint32_t> scan_all;
  std::atomic<uint64_t> losses[kLossKinds];  // events, by LossKind

  // Written by readers. CLOCK_MONOTONIC ns until which the drain is asked to stand still.
  alignas(64) std::atomic<uint64_t> pause_until;

  // A copy of the process, for a reader that looks through all of its memory. The reader takes the
  // lease (CLOCK_MONOTONIC ns) when the one before is over, clears the answer, which ends what copy
  // there may be, and stores kSnapshotPrepare; the drain's thread takes a look at the
  // memory map and answers kSnapshotReady with its thread id, then waits. With kSnapshotFork it
  // forks, answers kSnapshotForked with the copy's process id, or kSnapshotFailed with an errno,
  // and leaves the journal alone until the reader, which copies it, stores 0. The copy does
  // nothing; it ends when the lease, which the reader renews, is over. So does all waiting.
  std::atomic<uint64_t> snapshot_request;
  std::atomic<uint64_t> snapshot_lease_ns;
  std::atomic<uint64_t> snapshot_answer;  // the kind in the low half, the number in the high half
};

inline constexpr uint64_t kSnapshotPrepare = 1;
inline constexpr uint64_t kSnapshotFork = 2;
inline constexpr uint64_t kSnapshotReady = 1;
inline constexpr uint64_t kSnapshotForked = 2;
inline constexpr uint64_t kSnapshotFailed = 3;

// Offsets in the file, which is sparse: space is reserved before it is touched. The whole is
// mapped, and counts against a target's limit on its address space: it is no larger than it need
// be.
inline constexpr uint64_t kJournalPage = 4096;

inline constexpr uint64_t kUndoOffset = 64u << 10;
inline constexpr uint32_t kUndoWords = 24u << 10;  // 192 KiB

inline constexpr uint64_t kDefinitionsOffset = 256u << 10;
// A ring of bytes: each entry is a u32 length, little endian, and that many bytes, one encoded
// record. Entries wrap at any byte. definitions_head and _tail count bytes and never wrap.
inline constexpr uint32_t kDefinitionsBytes = 256u << 10;

inline constexpr uint64_t kStagingOffset = 512u << 10;
inline constexpr uint32_t kStagingBytes = 512u << 10;

inline constexpr uint64_t kMappingsOffset = 1u << 20;
inline constexpr uint32_t kMaxYoungMappings = 4096;
inline constexpr uint64_t kPendingOffset = (1u << 20) + (256u << 10);
inline constexpr uint32_t kMaxPendingUnmaps = 64;
inline constexpr uint64_t kIdentityOffset = (1u << 20) + (512u << 10);
inline constexpr uint32_t kIdentityBytes = 128u << 10;

inline constexpr uint64_t kRingsOffset = 2u << 20;
inline constexpr uint32_t kMaxRings = 4096;
inline constexpr uint64_t kRingDataOffset = 4u << 20;
inline constexpr uint32_t kLargeRings = 16;
inline constexpr uint32_t kLargeRingEvents = 8192;  // 256 KiB
inline constexpr uint32_t kSmallRingEvents = 256;   // 8 KiB

inline constexpr uint64_t kNodesOffset = 40u << 20;
inline constexpr uint32_t kMaxNodes = 4u << 20;  // ids below this
inline constexpr uint64_t kCountersOffset = 104u << 20;
inline constexpr uint32_t kMaxCounters = 512u << 10;
inline constexpr uint64_t kPoolOffset = 136u << 20;
inline constexpr uint32_t kMaxBlocks = 1u << 20;
inline constexpr uint32_t kDefaultBlocks = kMaxBlocks;
inline constexpr uint64_t kJournalBytes = kPoolOffset + uint64_t{kMaxBlocks} * sizeof(BlockEntry);

inline constexpr uint32_t RingCapacity(uint32_t ring) {
  return ring < kLargeRings ? kLargeRingEvents : kSmallRingEvents;
}
inline constexpr uint64_t RingDataOffset(uint32_t ring) {
  return kRingDataOffset + (ring < kLargeRings
                                ? uint64_t{ring} * kLargeRingEvents
                                : uint64_t{kLargeRings} * kLargeRingEvents +
                                      uint64_t{ring - kLargeRings} * kSmallRingEvents) *
                               sizeof(Event);
}

// The undo log is a stack of words: the old words, then one word (file offset << 8 | word count).
inline constexpr uint64_t UndoMark(uint64_t offset, uint32_t words) { return offset << 8 | words; }

static_assert(sizeof(JournalHeader) <= kJournalPage);
static_assert(kUndoOffset + kUndoWords * 8 <= kDefinitionsOffset);
static_assert(kMappingsOffset + kMaxYoungMappings * sizeof(MappingEntry) <= kPendingOffset);
static_assert(kRingsOffset + kMaxRings * sizeof(RingEntry) <= kRingDataOffset);
static_assert(RingDataOffset(kMaxRings) <= kNodesOffset);
static_assert(kNodesOffset + kMaxNodes * sizeof(StackNode) <= kCountersOffset);
static_assert(kCountersOffset + kMaxCounters * sizeof(CounterSlot) <= kPoolOffset);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_JOURNAL_LAYOUT_H_
