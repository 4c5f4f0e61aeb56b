#ifndef OLLAMATRACE_PRELOAD_DRAIN_DRAIN_H_
#define OLLAMATRACE_PRELOAD_DRAIN_DRAIN_H_

// The drain: takes the events out of the threads' rings in their true order, folds blocks that die
// young into their stack's counters, and writes the rest to the trace, chunk by chunk.
//
// Whoever calls holds the drain's lock (the session's): one caller at a time, the drain's thread or
// a producer whose ring is full. Nothing here allocates, throws, writes errno, calls into libc
// beyond memcpy and its like, or needs more than 4 KiB of stack (compression excepted, which
// DrainBatch leaves undone when told so). All changes of the journal are made in batches that the
// undo log makes atomic (see formats/journal_layout.h): a SIGKILL at any instruction leaves a
// journal that a reader can repair.

#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"
#include "preload/journal/journal.h"

namespace ollamatrace {

struct Drain;  // in memory that the caller gives

// The least max_bytes that makes sense; less is raised to it.
inline constexpr uint64_t kMinTraceBytes = 256u << 10;

struct DrainOptions {
  Journal* journal = nullptr;  // created, identity written, state kUnborn or kActive
  // Empty; the drain alone writes to it, and puts the next segment's file in its place.
  OwnFile* trace = nullptr;
  Mode mode = Mode::kSurvivors;
  uint64_t sample_bytes = 0;  // kSample: as in the header
  int level = 3;              // zstd
  // Of all files of the trace together, unless what is live needs more; see segments.h. 0: no
  // limit.
  uint64_t max_bytes = 0;
  uint32_t max_counters = kMaxCounters;
};

// Private memory, of which pages are touched as they are needed (give it MAP_NORESERVE, and
// MADV_NOHUGEPAGE, or the first touch costs 2 MiB): 24 bytes for each block held (at most
// pool_capacity), 12 for each stack that allocated, a bit for each node, 0.6 to 4 MiB for
// compression, 0.5 MiB for a chunk. About 50 MiB of addresses with the default pool.
size_t DrainBytes(const DrainOptions& options);
// Lays the drain out in zeroed `memory` (64-byte aligned, DrainBytes long; it must outlive the
// drain) and stages the first record, the header of section identity. The journal's header is to
// have its pool_capacity (0: kDefaultBlocks is stored there) and may have its anchors (all 0: they
// are set). nullptr: no space.
Drain* CreateDrain(void* memory, const DrainOptions& options);

enum class DrainStatus : uint8_t {
  kIdle,      // nothing was left to do, or what is left waits for a producer
  kProgress,  // something was done and there is more
  kPaused,    // a reader asked the drain to stand still
  kFull,      // staged records must be written first, and `may_write` was false
  kFailed,  // the disk is full or the file is out of reach: recording is to stop; see DrainFailure
};

// One bounded batch: definitions, then events of all rings, as far as their order is known.
// `may_write`: compress and write a chunk when enough is staged.
// Rings that were empty for long are looked at every 10 ms only, and when header.scan_all is set: a
// producer that waits for room sets it before it calls.
DrainStatus DrainBatch(Drain* drain, bool may_write);

// How full the fullest ring was that the last batch visited: of kFullRing.
inline constexpr uint32_t kFullRing = 1024;
uint32_t DrainFullest(const Drain* drain);

// Stages a sample and the losses that changed. pooled_* are filled in here; tracer_cpu_ns (time
// spent in the drain) and tracer_bytes (pages of the journal and of the drain in use, about) where
// the caller left them unknown. kPaused and kFull: nothing was staged.
DrainStatus DrainSample(Drain* drain, const SampleRecord& sample);

// Stages what memory_map_sampler.h has found. kPaused and kFull: nothing was staged.
DrainStatus DrainMemoryMap(Drain* drain, const MemoryMapRecord& map);

// Compresses and writes what is staged, so that a reader of the trace alone sees it. What is held
// (blocks, counters) stays in the journal. kIdle: done.
DrainStatus DrainFlush(Drain* drain);

// Everything that is held becomes part of the trace: all rings, live blocks, counters, the End
// record. Gaps in the order are skipped and counted. No producer should be active any more; what
// they publish during the call may be left out. Not bounded: it writes all blocks that are held.
// kIdle: done. Afterwards the journal is not needed: its
// state is kFinished. kFailed: it still is needed, and its state is kStopped.
DrainStatus DrainFinish(Drain* drain, EndKind kind);

// The failure of a drain whose trace has reached max_bytes while old parts cannot be dropped: why
// is in the trace.
inline constexpr long kTraceLimitReached = -4094;  // no errno of the kernel's

// In a fork child, before the drain's memory is unmapped: gives up what else it has.
void ForgetDrain(Drain* drain);

// -errno of the failure, or kTraceLimitReached; 0 when there was none.
long DrainFailure(const Drain* drain);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_DRAIN_H_
