#ifndef OLLAMATRACE_PRELOAD_DRAIN_CHECKPOINT_H_
#define OLLAMATRACE_PRELOAD_DRAIN_CHECKPOINT_H_

// Makes a checkpoint: a file that stands in for the oldest segments of a trace, and for the
// checkpoint before them. It has what was live at their end, definitions that are still needed,
// sums of the blocks that came and went, and thinned samples (FORMAT.md, "Segments").
//
// In steps, so that whoever waits for the drain waits for one of them only: some thousand records,
// or a chunk to read or to write. In bounded memory, whatever is live: the segments' events tell
// which addresses changed (TouchedBlocks, TouchedRanges); the old checkpoint is copied, but for
// blocks at those; then come the blocks that the segments leave live. What changes at more
// addresses than fit is done in several passes.
//
// Reads files that do not change any more, and of the journal only what is never taken back
// (nodes): no batch, no undo. The file has a name of its own until it is whole.

#include <cstddef>
#include <cstdint>

#include "preload/drain/checkpoint_writer.h"
#include "preload/drain/chunk_file.h"
#include "preload/drain/chunk_walker.h"
#include "preload/drain/dropped_pairs.h"
#include "preload/drain/kept_gpu.h"
#include "preload/drain/kept_samples.h"
#include "preload/drain/kept_threads.h"
#include "preload/drain/touched_blocks.h"
#include "preload/drain/touched_ranges.h"

namespace ollamatrace {

// A file of the trace that does not change any more.
struct TraceFileInfo {
  uint32_t number = 0;  // of a segment; of the first segment behind a checkpoint
  uint64_t bytes = 0;   // 0: there is no such file
  uint64_t events = 0;
  uint64_t device = 0;
  uint64_t inode = 0;
  uint64_t begin_ns = 0;  // of a segment: when it began
  uint64_t blocks = 0;    // of a segment: live where it ends, about
};

// The files' paths. `base` is that of the first segment without ".zst". "" when it is too long.
void SegmentPath(const char* base, uint32_t number, char (&path)[kMaxOwnPath]);
void CheckpointPath(const char* base, uint32_t number, bool whole, char (&path)[kMaxOwnPath]);

inline constexpr uint32_t kMaxClosedSegments = 64;

struct CheckpointPlan {
  Journal* journal = nullptr;
  ChunkWriter* writer = nullptr;
  const char* base = nullptr;
  uint64_t sample_bytes = 0;                          // mode sample: as in the header
  uint32_t max_touched = TouchedBlocks::kMaxEntries;  // addresses at a time
  uint32_t chunk_bytes = kTargetChunkBytes;           // of records in a chunk
  TraceFileInfo old;                                  // the checkpoint before
  uint32_t dropped = 0;  // segments that it stands in for, oldest first
  TraceFileInfo segments[kMaxClosedSegments];
  uint32_t next = 0;  // the segment that follows
  uint64_t next_begin_ns = 0;
};

enum class CheckpointStatus : uint8_t { kMore, kDone, kFailed };

class Checkpoint {
 public:
  // Memory for a checkpoint, of which pages are touched as they are needed: 3 to 24 MiB, and up to
  // 11 more where blocks of many stacks (100 000) came and went.
  static size_t MostBytes();

  // Begins one in zeroed memory of MostBytes(). 0, or -errno.
  static long Start(void* memory, const CheckpointPlan& plan, Checkpoint** checkpoint);

  // At most what the next step writes to the file.
  uint64_t NextWriteBytes() const;
  CheckpointStatus Step();
  // Of kFailed: -errno.
  long failure() const { return failure_; }
  // The part that is done, 0 to 1, about.
  double Progress() const;
  uint64_t file_bytes() const { return writer_.file_bytes(); }
  // After kDone: gives the file the name that makes it count. 0, or -errno.
  long Publish();
  TraceFileInfo Info() const;
  // Closes all files; deletes the one that is being made unless it was published.
  void Close();
  // The same in a fork child, whose parent goes on.
  void Forget();

 private:
  enum class Phase : uint8_t {
    kDefinitions,  // what is copied of the checkpoint before
    kSegments,     // each pass: what they touch,
    kOld,          // what they leave of the checkpoint before,
    kBlocks,       // and what they leave live themselves
    kRanges,
    kThreads,
    kDropped,
    kSamples,
    kGpu,
    kEnd,
    kWritten
  };
  struct Parts;
  struct SegmentSink;
  struct OldSink;
  struct DefinitionSink;

  static size_t LayOut(uint32_t capacity, void* memory, Parts* parts);

  void OpenOld();
  bool NextChunk();
  void WalkSegments();
  void WalkOld();
  void WriteBlocks();
  void WriteRanges();
  void WriteThreads();
  void WriteDropped();
  void WriteSamples();
  void WriteGpu();
  void WalkDefinitions();
  void StartSegments();
  void Fail(long failure) {
    if (failure_ == 0) failure_ = failure;
  }

  // Of the segments' records.
  TouchedBlocks::Entry* TouchBlock(uint64_t key, uint64_t time_ns, bool* fresh);
  void BlockDied(const TouchedBlocks::Entry& entry, uint64_t time_ns);
  void TouchRange(uint64_t begin, uint64_t length, uint64_t time_ns, const MapRecord* map);
  SampleWeight Weight(uint64_t size) const { return WeightOf(size, plan_.sample_bytes); }
  bool CountsBlocks() const { return event_ >= blocks_.pass().counted_until(); }
  bool CountsRanges() const { return event_ >= ranges_.pass().counted_until(); }
  // Of both.
  void OnDefinition(Tag tag, const uint8_t* payload, size_t payload_size, const uint8_t* record,
                    size_t size, bool old);
  void Copy(Tag tag, const uint8_t* payload, size_t payload_size, const uint8_t* record,
            size_t size);
  void WriteAlloc(const AllocRecord& alloc);
  void WriteMap(const MapRecord& map, uint64_t begin, uint64_t end);
  void UseThread(ThreadId id);

  CheckpointPlan plan_;
  OwnFile file_;
  ChunkFile input_;
  ChunkWalker walker_;
  CheckpointWriter writer_;
  TouchedBlocks blocks_;
  TouchedRanges ranges_;
  DroppedPairs dropped_;
  KeptThreads threads_;
  KeptSamples samples_;
  KeptGpu gpu_;

  Phase phase_;
  bool first_pass_;
  bool no_losses_;
  bool published_;
  long failure_;
  uint8_t* memory_map_;  // the last MemoryMap record, encoded
  size_t memory_map_size_;
  uint32_t place_;  // in what the phase goes through
  uint32_t messages_, gpu_events_;
  uint32_t samples_seen_;
  uint64_t event_;        // number of the segments' event
  uint64_t input_bytes_;  // of the files before the one that is read, in this pass
  uint64_t all_bytes_;    // of all files
  uint64_t old_written_bytes_, old_mapped_bytes_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_CHECKPOINT_H_
