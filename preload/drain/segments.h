#ifndef OLLAMATRACE_PRELOAD_DRAIN_SEGMENTS_H_
#define OLLAMATRACE_PRELOAD_DRAIN_SEGMENTS_H_

// Keeps a trace within a number of bytes on disk. The trace is written in segments, files of a
// sixteenth of the limit. When the limit comes near, a checkpoint (checkpoint.h) takes the place of
// the oldest segments and of the checkpoint before. So the files at any time are
//   one checkpoint, or none   what was live where the oldest segment begins
//   closed segments           whole, unchanging
//   the active segment        the one that chunks are appended to
//   a checkpoint in the making, which does not count yet.
// Which of them the trace is made of is in the journal's header and changes in a batch: a kill
// leaves the files of before or of after. What is not part of the trace any more is deleted then.
//
// A checkpoint is made in steps, between batches: with a tenth of a CPU, and faster in proportion
// to what the trace has grown by meanwhile, so that it is done before the limit is reached. Its
// room is kept free; a chunk that finds no other waits until it is done.
//
// What is live is never dropped. When a checkpoint takes more than a quarter of the limit, or finds
// no room, the limit is doubled, and the trace says so.

#include <cstddef>
#include <cstdint>

#include "preload/drain/checkpoint.h"
#include "preload/journal/own_file.h"

namespace ollamatrace {

struct Drain;

// Plain data, zeroed.
struct Segments {
  uint64_t max_bytes;      // as it is now; 0: no limit, one segment
  uint64_t segment_bytes;  // a segment is closed when it has as many
  uint64_t chunk_room;     // about the most that a chunk takes
  // A checkpoint is begun when the trace and what the checkpoint is expected to take are more.
  uint64_t begin_bytes;
  uint32_t active;
  uint32_t closed_count;
  uint64_t active_begin_ns;
  uint64_t retry_segment_bytes;     // closing the active segment failed: again when it has these
  uint64_t retry_checkpoint_bytes;  // a checkpoint failed: again when the trace has these
  bool ended;                       // the End record is staged: no segment follows
  bool complained;                  // that there are no more segments, in the trace
  uint64_t raised_from;             // what was asked for, when max_bytes is more; else 0
  bool raise_said;                  // that, in the trace
  TraceFileInfo checkpoint;
  TraceFileInfo closed[kMaxClosedSegments];  // oldest first

  // A checkpoint in the making.
  Checkpoint* making;
  void* memory;       // mapped with the first one, and given back but for the addresses in between
  uint64_t expected;  // bytes that it will take, about
  uint64_t grown_from;  // bytes of the trace when it began
  uint64_t room;        // it has to be done when the trace has grown by these
  uint64_t due_ns;      // of its next step
  CheckpointPlan plan;

  OwnFile scratch;  // of the next segment, or of one to be deleted
  char base[kMaxOwnPath];
};

void InitSegments(Drain* drain, uint64_t max_bytes);

// Bytes of all files.
uint64_t TraceBytes(const Drain& drain);

// Makes sure that `bytes` more fit, whatever that takes. 0, or kTraceLimitReached.
long MakeRoom(Drain* drain, uint64_t bytes);

// After a chunk was written: closes the segment, begins a checkpoint, when it is time. 0, or
// -errno: the trace cannot be written any more.
long AfterChunk(Drain* drain);

// Goes on with a checkpoint, if it is time. Not in a batch.
void StepCheckpoint(Drain* drain);

// Gives up a checkpoint in the making.
void DropCheckpoint(Drain* drain);

// In a fork child: closes what is open, unmaps what is mapped.
void ForgetSegmentFiles(Drain* drain);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_SEGMENTS_H_
