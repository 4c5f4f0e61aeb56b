// The trace format: constants and records. The prose, complete enough to write a second reader from
// it, is in FORMAT.md.
//
// A trace is a sequence of chunks. A chunk is a skippable zstd frame (the chunk's index: kind,
// times, counts, sizes, checksum) followed by one ordinary zstd frame that holds the chunk's
// records, one after the other or, in mode full, as columns (column_writer.h). `zstd -dc` of the
// whole file prints what all chunks hold, one after the other.
// Delta state starts afresh in every chunk, so chunks decode on their own.
//
// A record starts with a tag byte. Tags below kLengthPrefixed have a layout that a reader of this
// version knows; tags from kLengthPrefixed on are followed by the payload's length as a varint, so
// that a reader skips kinds that it does not know and ignores fields appended to kinds that it
// knows.
//
// This header has no dependencies beyond <cstdint>: the injected library, the reader and the tools
// include it.
#ifndef OLLAMATRACE_FORMATS_TRACE_FORMAT_H_
#define OLLAMATRACE_FORMATS_TRACE_FORMAT_H_

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

inline constexpr uint32_t kTraceVersion = 2;
// The first bytes of the first record of a trace (the header's payload).
inline constexpr char kTraceMagic[8] = {'o', 'l', 'l', 'a', 'm', 't', 'r', 'c'};
// Magic number of the skippable frame that carries a chunk's index (RFC 8878, 3.1.2: 0x184D2A50 to
// 0x184D2A5F).
inline constexpr uint32_t kIndexFrameMagic = 0x184D2A57;
inline constexpr char kIndexMagic[4] = {'o', 't', 'c', 'k'};
// No chunk holds more than this, uncompressed: what bounds the reader's memory.
inline constexpr uint32_t kMaxChunkBytes = 4u << 20;
// The target size at which the writer closes a chunk.
inline constexpr uint32_t kTargetChunkBytes = 1u << 18;
// In mode full, whose records become columns: these gain from length.
inline constexpr uint32_t kTargetFullChunkBytes = 3u << 17;
inline constexpr uint32_t kMaxStackDepth = 512;
inline constexpr uint32_t kMaxStringBytes = 64u << 10;

// Typed ids, dense, from 1; 0 means none.
enum class StackId : uint32_t {};  // a node of the stack tree: the innermost frame of a stack
enum class ModuleId : uint32_t {};
enum class ThreadId : uint32_t {};  // a dense id, not the kernel's tid: tids are reused

// Where the memory of a block is. Values are part of the format.
enum class Domain : uint8_t {
  kHeap = 0,      // malloc family
  kMapping = 1,   // mmap family
  kBreak = 2,     // brk and sbrk called by the program itself
  kDevice = 8,    // CUDA device memory
  kManaged = 9,   // moves between host and device
  kPinned = 10,   // page-locked host memory
  kPool = 11,     // what is in use of stream-ordered pools
  kVirtual = 12,  // virtual memory management: physical memory; the address is its handle
  kGraph = 13,    // what allocation nodes of CUDA graphs ask for
  kArray = 14,    // the address is the array's handle
  // No memory of their own: places in the address space, other domains' memory seen once more,
  // objects that are merely counted.
  kAddressSpace = 15,  // virtual memory management: reserved addresses
  kMapped = 16,        // virtual memory management: physical memory mapped at addresses
  kRegistered = 17,    // the program's own host memory, page-locked for the GPU
  kGraphExec = 18,     // executable graphs, of unknown size; the address is the handle
  kImported = 19,      // another process's, or another library's
};
inline constexpr bool IsGpu(Domain domain) { return static_cast<uint8_t>(domain) >= 8; }
// Whether blocks of this domain are memory that nobody else accounts for.
inline constexpr bool IsOwnMemory(Domain domain) {
  return domain < Domain::kAddressSpace && domain != Domain::kGraph;
}
// Memory on a device: all of it, or (managed) some.
inline constexpr bool IsOnDevice(Domain domain) {
  return IsGpu(domain) && IsOwnMemory(domain) && domain != Domain::kPinned;
}
// In lower case, words joined by "-": "heap", "address-space"; "unknown" where there is no name.
const char* DomainName(Domain domain);

// Which function allocated. Values are part of the format.
enum class AllocFunction : uint8_t {
  kMalloc = 0,
  kCalloc = 1,
  kRealloc = 2,
  kAligned = 3,
  kMmap = 4,
  kMremap = 5,
  kBrk = 6,
  kGpu = 7,
};

enum class Mode : uint8_t { kSurvivors = 0, kFull = 1, kSample = 2 };

// How a process ended, as far as the trace itself says. No End record at all: running, or killed
// (the journal's owner is gone).
enum class EndKind : uint8_t { kExited = 0, kExec = 1, kSegment = 2, kStopped = 3 };

enum class LossKind : uint8_t {
  kSignalInHook = 0,  // an event inside a signal handler that interrupted a hook on the same thread
  kNoThreadState = 1,   // a thread too early or too late for a ring
  kUnfinished = 2,      // a place in the order that no event ever filled
  kStackTableFull = 3,  // stack truncated: the table of stacks is full
  kDiskFull = 4,
  kOther = 5,
};

// Tags. Events (below 0x80) are laid out as FORMAT.md says, without length.
enum class Tag : uint8_t {
  kTimeThread = 0x01,  // time delta (signed ns, from the chunk's running time), thread id: hold
                       // until the next one
  kAlloc = 0x02,       // see EncodeAlloc in encode.h
  kFree = 0x03,
  kMap = 0x04,
  kUnmap = 0x05,
  // No payload: the delta state starts afresh (once per chunk, before its first event).
  kReset = 0x06,
  kLengthPrefixed = 0x80,
  kHeader = 0x80,
  kModule = 0x81,
  kModuleUnload = 0x82,
  kThread = 0x83,
  kThreadEnd = 0x84,
  kNode = 0x85,
  kCounters = 0x86,
  kSample = 0x87,
  kLoss = 0x88,
  kMessage = 0x89,
  kEnd = 0x8a,
  kDropped = 0x8b,
  kWeights = 0x8c,
  kMemoryMap = 0x90,
  kGpuPlace = 0xa0,  // the records of gpu_records.h
  kGpuCapture = 0xa1,
  kGpuFailure = 0xa2,
  kGpuImplicit = 0xa3,
  kGpuLedger = 0xa4,
  kGpuSample = 0xa5,
};

// ---- Records ----------------------------------------------------------------------------------
// As the writer takes them and the reader gives them. Text is not owned: it is valid during the
// call.

struct Text {
  const char* data = nullptr;
  size_t size = 0;
};

struct HeaderRecord {
  uint32_t version = kTraceVersion;
  uint32_t pid = 0;
  uint32_t ppid = 0;
  // CLOCK_MONOTONIC when the trace began: the origin of nothing, times are absolute.
  uint64_t start_ns = 0;
  uint64_t wall_ns = 0;  // CLOCK_REALTIME at start_ns
  // Start time of the process in clock ticks since boot (/proc/PID/stat field 22).
  uint64_t process_start = 0;
  Mode mode = Mode::kSurvivors;
  uint64_t sample_bytes = 0;  // kSample: the mean distance between samples
  uint32_t page_bytes = 4096;
  uint32_t segment = 0;
  uint8_t born_by_fork = 0;  // 1: this process was forked from a traced one without exec
  Text exe;                  // path of the executable
  Text argv;                 // arguments, separated (not ended) by NUL; cut at kMaxStringBytes
  Text library;              // version of the library
  Text architecture;         // "x86_64", "aarch64"
  // When this segment began (CLOCK_MONOTONIC); 0 in segment 0.
  uint64_t segment_ns = 0;
};

struct ModuleRecord {
  ModuleId id{};
  uint64_t time_ns = 0;
  uint64_t bias = 0;   // load bias: address = bias + ELF virtual address
  uint64_t begin = 0;  // address range that the module's loaded segments span
  uint64_t end = 0;
  Text build_id;  // raw bytes, may be empty
  Text path;      // "" when unknown; "[vdso]"
};

struct ModuleUnloadRecord {
  ModuleId id{};
  uint64_t time_ns = 0;
};

struct ThreadRecord {
  ThreadId id{};
  uint64_t time_ns = 0;
  uint32_t tid = 0;
  Text name;  // repeated when the name changed; the last one holds
};

struct ThreadEndRecord {
  ThreadId id{};
  uint64_t time_ns = 0;
};

// One frame of the stack tree. A stack is the node of its innermost frame; `parent` is the caller's
// node.
struct NodeRecord {
  StackId id{};
  StackId parent{};  // 0: outermost. May be larger than id: order of definition is not order of ids
  ModuleId module{};  // 0: in no module (JIT code)
  // Absolute return address (the call is at address - 1), or the exact pc when `exact`.
  uint64_t address = 0;
  uint8_t exact = 0;  // 1: interrupted instruction (signal frame's caller), not a return address
};

struct AllocRecord {
  uint64_t time_ns = 0;
  ThreadId thread{};
  Domain domain = Domain::kHeap;
  AllocFunction function = AllocFunction::kMalloc;
  StackId stack{};
  uint64_t address = 0;
  uint64_t size = 0;  // bytes asked for
};

struct FreeRecord {
  uint64_t time_ns = 0;
  ThreadId thread{};
  Domain domain = Domain::kHeap;
  uint64_t address = 0;
};

// A new mapping over [address, address + length); it replaces whatever was mapped there
// (MAP_FIXED).
struct MapRecord {
  uint64_t time_ns = 0;
  ThreadId thread{};
  AllocFunction function = AllocFunction::kMmap;
  StackId stack{};
  uint64_t address = 0;
  uint64_t length = 0;     // rounded up to pages
  uint8_t protection = 0;  // PROT_* bits
  uint8_t kind = 0;        // MapKind
};
enum MapKind : uint8_t {
  kMapAnonymous = 0,
  kMapFilePrivate = 1,
  kMapFileShared = 2,
  kMapSharedAnonymous = 3
};

// [address, address + length) is mapped no longer; parts of several mappings, or nothing, may lie
// in it.
struct UnmapRecord {
  uint64_t time_ns = 0;
  ThreadId thread{};
  uint64_t address = 0;
  uint64_t length = 0;
};

// What was folded away: blocks of one stack that were allocated and freed without being written as
// events. Cumulative since the trace's start: a later record of the same (stack, domain) replaces
// the earlier one.
struct CountersRecord {
  StackId stack{};
  Domain domain = Domain::kHeap;
  uint64_t pairs = 0;        // allocations (= frees) folded
  uint64_t bytes = 0;        // of these allocations
  uint64_t lifetime_ns = 0;  // sum over the pairs
  uint64_t peak_bytes = 0;   // greatest sum of this stack's live bytes that the drain has seen
  uint64_t first_ns = 0;     // time of the first and of the last allocation folded
  uint64_t last_ns = 0;
};

// Mode sample: what the pairs of a CountersRecord stand for, of the domains that are drawn. Sums of
// SampleWeight (sample_weight.h) over the pairs, in its units; they stop at 2^64 - 1. Cumulative,
// and replaced by a later record of the same (stack, domain), as counters are.
struct WeightsRecord {
  StackId stack{};
  Domain domain = Domain::kHeap;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  uint64_t blocks_variance = 0;
  uint64_t bytes_variance = 0;
};

// Gauges at one moment. kUnknownGauge where a figure is not to be had.
inline constexpr uint64_t kUnknownGauge = ~uint64_t{0};
struct SampleRecord {
  uint64_t time_ns = 0;
  uint64_t rss_anon = kUnknownGauge;  // bytes, /proc/PID/status
  uint64_t rss_file = kUnknownGauge;
  uint64_t rss_shmem = kUnknownGauge;
  uint64_t swap = kUnknownGauge;
  uint64_t arena = kUnknownGauge;      // mallinfo2: bytes obtained by brk and for arenas
  uint64_t mmapped = kUnknownGauge;    // mallinfo2 hblkhd
  uint64_t in_use = kUnknownGauge;     // mallinfo2 uordblks
  uint64_t retained = kUnknownGauge;   // mallinfo2 fordblks
  uint64_t trimmable = kUnknownGauge;  // mallinfo2 keepcost
  uint64_t open_files = kUnknownGauge;
  uint64_t sockets = kUnknownGauge;
  uint64_t threads = kUnknownGauge;
  uint64_t pooled_bytes =
      kUnknownGauge;  // live heap bytes that the drain holds and has not written as events
  uint64_t pooled_blocks = kUnknownGauge;
  uint64_t pooled_peak_bytes =
      kUnknownGauge;                       // greatest value of pooled_bytes since the sample before
  uint64_t tracer_cpu_ns = kUnknownGauge;  // CPU time of the drain so far
  uint64_t tracer_bytes = kUnknownGauge;   // bytes of the tracer's own mappings
  // Known in a checkpoint only, where the events before the sample were dropped: what they said at
  // this moment. Live heap bytes beyond pooled_bytes; bytes of anonymous mappings and the break.
  uint64_t written_bytes = kUnknownGauge;
  uint64_t mapped_bytes = kUnknownGauge;
};

// The gauges, in the order of their fields in the record.
inline constexpr uint64_t SampleRecord::*kGauges[] = {
    &SampleRecord::rss_anon,      &SampleRecord::rss_file,      &SampleRecord::rss_shmem,
    &SampleRecord::swap,          &SampleRecord::arena,         &SampleRecord::mmapped,
    &SampleRecord::in_use,        &SampleRecord::retained,      &SampleRecord::trimmable,
    &SampleRecord::open_files,    &SampleRecord::sockets,       &SampleRecord::threads,
    &SampleRecord::pooled_bytes,  &SampleRecord::pooled_blocks, &SampleRecord::pooled_peak_bytes,
    &SampleRecord::tracer_cpu_ns, &SampleRecord::tracer_bytes,  &SampleRecord::written_bytes,
    &SampleRecord::mapped_bytes};

// In a checkpoint: blocks of one stack that were allocated and freed in events that were dropped
// with old segments. On top of Counters.
struct DroppedRecord {
  StackId stack{};
  Domain domain = Domain::kHeap;
  uint64_t pairs = 0;        // allocations (= frees)
  uint64_t bytes = 0;        // of these allocations
  uint64_t lifetime_ns = 0;  // sum over the pairs
  uint64_t first_ns = 0;     // time of the first and of the last of these allocations
  uint64_t last_ns = 0;
  // Mode sample: what the pairs stand for, as in WeightsRecord; 0 in other modes.
  uint64_t weight_blocks = 0;
  uint64_t weight_bytes = 0;
  uint64_t weight_blocks_variance = 0;
  uint64_t weight_bytes_variance = 0;
};

// What is mapped and how much of it is in memory. `body`: see memory_map.h.
struct MemoryMapRecord {
  uint64_t time_ns = 0;
  Text body;
};

struct LossRecord {
  uint64_t time_ns = 0;
  LossKind kind = LossKind::kOther;
  uint64_t events = 0;
};  // cumulative per kind
struct MessageRecord {
  uint64_t time_ns = 0;
  Text text;
};
struct EndRecord {
  uint64_t time_ns = 0;
  EndKind kind = EndKind::kExited;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_TRACE_FORMAT_H_
