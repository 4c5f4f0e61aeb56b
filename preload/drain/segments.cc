#include "preload/drain/segments.h"

#include <errno.h>
#include <string.h>

#include "preload/base/clock.h"
#include "preload/base/own_memory.h"
#include "preload/base/sys.h"
#include "preload/base/text.h"
#include "preload/drain/drain_state.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kSegmentsInAll = 16;
// The part of the limit that a checkpoint may take: one in so many. It and as much of segments
// become the next one while they are still there.
constexpr uint64_t kMostLive = 4;
// What a live block takes in a checkpoint, compressed: 8 to 11 were seen.
constexpr uint64_t kBlockBytes = 14;
// Of the segments that one checkpoint stands in for, unless a single one has more.
constexpr uint64_t kMostEvents = 4'000'000;
// The share of a CPU for checkpoints: one in so many. What was saved up is spent in one go.
constexpr uint64_t kCostShare = 10;
constexpr uint64_t kMaxSavedNs = 50'000'000;
// And in a call that finds the checkpoint behind.
constexpr uint64_t kHurryNs = 2'000'000;

constexpr size_t kTextBytes = 160;

char g_path[kMaxOwnPath];  // under the drain's lock

uint64_t ClosedBytes(const Segments& segments) {
  uint64_t bytes = 0;
  for (uint32_t i = 0; i < segments.closed_count; ++i) bytes += segments.closed[i].bytes;
  return bytes;
}

// For the chunk of a segment's End record.
uint64_t EndRoom(const Segments& segments) { return segments.segment_bytes / 2; }

// What the checkpoint in the making needs still.
uint64_t KeptFree(const Segments& segments) {
  if (segments.making == nullptr) return 0;
  const uint64_t written = segments.making->file_bytes();
  return (written < segments.expected ? segments.expected - written : 0) + segments.chunk_room;
}

// Without the checkpoint in the making.
uint64_t CommittedBytes(const Drain& drain) {
  return drain.segments.checkpoint.bytes + ClosedBytes(drain.segments) + drain.staging.trace_end();
}

// False: there was no room.
bool Say(Drain* drain, const char (&text)[kTextBytes]) {
  uint8_t record[kSmallRecordBytes + kTextBytes];
  const size_t size = EncodeMessage({drain->now_ns, {text, strlen(text)}}, record);
  OpenBatch(drain);
  const bool said = drain->staging.Encoded(record, size);
  CommitBatch(drain);
  return said;
}

void Complain(Drain* drain, const char* what, long failure) {
  if (drain->segments.complained) return;
  char text[kTextBytes];
  TextWriter message(text, sizeof text);
  message.Put(what).Put(" (error ").Number(static_cast<uint64_t>(-failure));
  message.Put("): recording stops when OLLAMATRACE_MAX_BYTES is reached");
  drain->segments.complained = Say(drain, text);
}

void SetLimit(Drain* drain, uint64_t max_bytes) {
  Segments* const segments = &drain->segments;
  segments->max_bytes = max_bytes;
  segments->segment_bytes = max_bytes / kSegmentsInAll;
  segments->begin_bytes = max_bytes - 2 * segments->segment_bytes - 3 * segments->chunk_room;
}

// How much the trace may grow while the checkpoint is made.
void SetRoom(Segments* segments) {
  const uint64_t taken =
      segments->grown_from + segments->expected + EndRoom(*segments) + 3 * segments->chunk_room;
  segments->room = taken < segments->max_bytes ? segments->max_bytes - taken : 0;
}

void SayRaised(Drain* drain) {
  Segments* const segments = &drain->segments;
  if (segments->raised_from == 0 || segments->raise_said) return;
  char text[kTextBytes];
  TextWriter message(text, sizeof text);
  message.Put("OLLAMATRACE_MAX_BYTES=").Number(segments->raised_from);
  message.Put(" is too small for what is live: the limit is doubled as often as that needs");
  segments->raise_said = Say(drain, text);
}

// What is live needs more than the limit, and is worth more.
void Raise(Drain* drain) {
  Segments* const segments = &drain->segments;
  if (segments->raised_from == 0) segments->raised_from = segments->max_bytes;
  SetLimit(drain, 2 * segments->max_bytes);
  if (segments->making != nullptr) SetRoom(segments);
  SayRaised(drain);
}

void Delete(Drain* drain, const char* path, const TraceFileInfo& file) {
  OwnFile* const scratch = &drain->segments.scratch;
  NameOwnFile(scratch, path, file.device, file.inode);
  CloseOwnFile(scratch, true);
  DrainStep();
}

// Closes the active segment and begins the next one. 0, or -errno: `*fatal` tells whether the trace
// can be written at all.
long BeginSegment(Drain* drain, bool* fatal) {
  Segments* const segments = &drain->segments;
  Staging* const staging = &drain->staging;
  *fatal = false;
  if (segments->closed_count == kMaxClosedSegments) return -ENOSPC;
  SegmentPath(segments->base, segments->active + 1, g_path);
  long failure = CreateOwnFile(&segments->scratch, g_path);
  if (failure != 0) return failure;
  DrainStep();
  OpenBatch(drain);
  staging->End({drain->now_ns, EndKind::kSegment});
  CommitBatch(drain);
  failure = staging->WriteChunkToFile();
  if (failure != 0) {
    CloseOwnFile(&segments->scratch, true);
    *fatal = true;
    return failure;
  }
  OpenBatch(drain);
  CommitBatch(drain);

  OwnFile* const trace = staging->trace();
  TraceFileInfo* const closed = &segments->closed[segments->closed_count++];
  *closed = {segments->active, staging->trace_end(),      staging->events(), trace->device,
             trace->inode,     segments->active_begin_ns, staging->blocks()};
  ++segments->active;
  segments->active_begin_ns = drain->now_ns;
  segments->retry_segment_bytes = 0;

  OpenBatch(drain);
  drain->undo.Push(&drain->header->segment, 1);
  staging->BeginFile(segments->active, segments->active_begin_ns);
  StoreWord(&drain->header->segment, segments->active);
  CommitBatch(drain);
  CloseOwnFile(trace, false);
  *trace = segments->scratch;
  segments->scratch.fd = -1;
  segments->scratch.path[0] = '\0';
  // Each segment has the figures of its own.
  memset(drain->reported_losses, 0, sizeof drain->reported_losses);
  return 0;
}

// How many of the oldest segments are worth writing a checkpoint for: what it copies comes from
// the one before for the better part otherwise. Many events take many passes.
uint32_t SegmentsToDrop(const Segments& segments) {
  const uint64_t worth = segments.checkpoint.bytes > segments.segment_bytes
                             ? segments.checkpoint.bytes
                             : segments.segment_bytes;
  uint64_t bytes = 0;
  uint32_t count = 0;
  uint64_t events = 0;
  while (count < segments.closed_count && bytes < worth) {
    events += segments.closed[count].events;
    if (count != 0 && events > kMostEvents) break;
    bytes += segments.closed[count++].bytes;
  }
  return count;
}

// About the most that the checkpoint in place of `count` segments will take. In its order, which is
// none, blocks take more than in the order of time.
uint64_t ExpectedBytes(const Segments& segments, uint32_t count) {
  uint64_t bytes = segments.checkpoint.bytes;
  for (uint32_t i = 0; i < count; ++i) bytes += segments.closed[i].bytes;
  const uint64_t blocks = count == 0 ? 0 : segments.closed[count - 1].blocks;
  return blocks * kBlockBytes > bytes ? blocks * kBlockBytes : bytes;
}

long BeginCheckpoint(Drain* drain, uint32_t count) {
  Segments* const segments = &drain->segments;
  CheckpointPlan* const plan = &segments->plan;
  plan->journal = drain->journal;
  plan->writer = drain->staging.writer();
  plan->base = segments->base;
  plan->sample_bytes = drain->sample_bytes;
  plan->chunk_bytes =
      drain->chunk_bytes < kTargetChunkBytes ? drain->chunk_bytes : kTargetChunkBytes;
  plan->old = segments->checkpoint;
  plan->dropped = count;
  for (uint32_t i = 0; i < count; ++i) plan->segments[i] = segments->closed[i];
  const bool last = count == segments->closed_count;
  plan->next = last ? segments->active : segments->closed[count].number;
  plan->next_begin_ns = last ? segments->active_begin_ns : segments->closed[count].begin_ns;

  if (segments->memory == nullptr) {
    segments->memory = MapOwn(Checkpoint::MostBytes(), MAP_NORESERVE);
    if (segments->memory == nullptr) return -ENOMEM;
    constexpr int kNoHugePage = 15;  // MADV_NOHUGEPAGE
    sys::Madvise(segments->memory, Checkpoint::MostBytes(), kNoHugePage);
  }
  const long failure = Checkpoint::Start(segments->memory, *plan, &segments->making);
  if (failure != 0) {
    segments->making = nullptr;
    return failure;
  }
  segments->expected = ExpectedBytes(*segments, count);
  segments->grown_from = CommittedBytes(*drain);
  SetRoom(segments);
  segments->due_ns = drain->now_ns;
  return 0;
}

// The checkpoint is whole: it is part of the trace from now on, and what it stands in for is not.
long CommitCheckpoint(Drain* drain) {
  Segments* const segments = &drain->segments;
  const long failure = segments->making->Publish();
  if (failure != 0) return failure;
  const TraceFileInfo made = segments->making->Info();
  OpenBatch(drain);
  drain->undo.Push(&drain->header->segment, 1);
  StoreWord(&drain->header->first_segment, made.number);
  CommitBatch(drain);

  if (segments->checkpoint.bytes != 0) {
    CheckpointPath(segments->base, segments->checkpoint.number, /*whole=*/true, g_path);
    Delete(drain, g_path, segments->checkpoint);
  }
  const uint32_t dropped = segments->plan.dropped;
  for (uint32_t i = 0; i < dropped; ++i) {
    SegmentPath(segments->base, segments->closed[i].number, g_path);
    Delete(drain, g_path, segments->closed[i]);
  }
  segments->closed_count -= dropped;
  memmove(segments->closed, segments->closed + dropped,
          segments->closed_count * sizeof segments->closed[0]);
  segments->checkpoint = made;
  while (made.bytes > segments->max_bytes / kMostLive) Raise(drain);
  return 0;
}

// The checkpoint in the making, or to be made, failed.
void GiveUp(Drain* drain, long failure) {
  DropCheckpoint(drain);
  Segments* const segments = &drain->segments;
  segments->retry_checkpoint_bytes = CommittedBytes(*drain) + segments->segment_bytes;
  Complain(drain, "old parts of the trace cannot be dropped", failure);
}

// One step. 0, or -errno: then it is given up.
long Step(Drain* drain) {
  Segments* const segments = &drain->segments;
  Checkpoint* const making = segments->making;
  while (TraceBytes(*drain) + making->NextWriteBytes() > segments->max_bytes) Raise(drain);
  long failure = 0;
  switch (making->Step()) {
    case CheckpointStatus::kMore:
      return 0;
    case CheckpointStatus::kDone:
      failure = CommitCheckpoint(drain);
      break;
    case CheckpointStatus::kFailed:
      failure = making->failure();
      break;
  }
  if (failure == 0) {
    DropCheckpoint(drain);
  } else {
    GiveUp(drain, failure);
  }
  return failure;
}

bool IsBehind(const Drain& drain) {
  const Segments& segments = drain.segments;
  const uint64_t grown = CommittedBytes(drain) - segments.grown_from;
  return grown != 0 && static_cast<double>(grown) >
                           static_cast<double>(segments.room) * segments.making->Progress();
}

}  // namespace

void InitSegments(Drain* drain, uint64_t max_bytes) {
  Segments* const segments = &drain->segments;
  segments->scratch.fd = -1;
  segments->active_begin_ns = drain->now_ns;
  segments->plan.max_touched = TouchedBlocks::kMaxEntries;
  // Its name tells the names of all others.
  const char* const path = drain->staging.trace()->path;
  constexpr size_t kSuffix = 4;  // ".zst"
  const size_t length = strlen(path);
  drain->chunk_bytes = drain->mode == Mode::kFull ? kTargetFullChunkBytes : kTargetChunkBytes;
  if (max_bytes == 0 || length <= kSuffix ||
      memcmp(path + length - kSuffix, ".zst", kSuffix) != 0) {
    return;
  }
  memcpy(segments->base, path, length - kSuffix);
  if (max_bytes < kMinTraceBytes) max_bytes = kMinTraceBytes;
  if (drain->chunk_bytes > max_bytes / kSegmentsInAll) {
    drain->chunk_bytes = static_cast<uint32_t>(max_bytes / kSegmentsInAll);
  }
  segments->chunk_room = ChunkBound(drain->chunk_bytes + kMaxStackDepth * kNodeBytes);
  SetLimit(drain, max_bytes);
}

uint64_t TraceBytes(const Drain& drain) {
  const Checkpoint* const making = drain.segments.making;
  return CommittedBytes(drain) + (making != nullptr ? making->file_bytes() : 0);
}

long MakeRoom(Drain* drain, uint64_t bytes) {
  Segments* const segments = &drain->segments;
  if (segments->max_bytes == 0) return 0;
  bytes += EndRoom(*segments);
  bool failed = false;
  while (TraceBytes(*drain) + bytes + KeptFree(*segments) > segments->max_bytes) {
    if (segments->making != nullptr) {
      failed = Step(drain) != 0;
    } else if (segments->checkpoint.bytes > segments->max_bytes / (2 * kMostLive) &&
               segments->closed_count == 0) {
      Raise(drain);
    } else if (failed || segments->closed_count == 0 ||
               BeginCheckpoint(drain, segments->closed_count) != 0) {
      return kTraceLimitReached;
    }
  }
  return 0;
}

long AfterChunk(Drain* drain) {
  Segments* const segments = &drain->segments;
  if (segments->max_bytes == 0 || segments->ended) return 0;
  SayRaised(drain);  // if there was no room for it
  const uint64_t trace_end = drain->staging.trace_end();
  if (trace_end >= segments->segment_bytes && trace_end >= segments->retry_segment_bytes) {
    bool fatal = false;
    const long failure = BeginSegment(drain, &fatal);
    if (fatal) return failure;
    if (failure != 0) {
      segments->retry_segment_bytes = trace_end + segments->segment_bytes / 4;
      Complain(drain, "no new segment can be made", failure);
    }
  }
  if (segments->making == nullptr && segments->closed_count != 0 &&
      CommittedBytes(*drain) >= segments->retry_checkpoint_bytes) {
    const uint32_t count = SegmentsToDrop(*segments);
    if (CommittedBytes(*drain) + ExpectedBytes(*segments, count) > segments->begin_bytes) {
      const long failure = BeginCheckpoint(drain, count);
      if (failure != 0) GiveUp(drain, failure);
    }
  }
  return 0;
}

void StepCheckpoint(Drain* drain) {
  Segments* const segments = &drain->segments;
  if (segments->making == nullptr) return;
  const uint64_t begin_ns = MonotonicNs();
  uint64_t saved_ns = 0;
  if (begin_ns >= segments->due_ns) {
    saved_ns = 1 + (begin_ns - segments->due_ns) / (kCostShare - 1);
    if (saved_ns > kMaxSavedNs) saved_ns = kMaxSavedNs;
  }
  uint64_t spent_ns = 0;
  while (segments->making != nullptr) {
    const bool hurry = spent_ns < kHurryNs && IsBehind(*drain);
    // A producer that waits is in a greater hurry than a checkpoint that is in time.
    const bool waited_for = drain->header->scan_all.load(std::memory_order_relaxed) != 0;
    if (!hurry && (spent_ns >= saved_ns || (waited_for && spent_ns != 0))) break;
    Step(drain);  // what failed is tried again later
    spent_ns = MonotonicNs() - begin_ns;
  }
  if (spent_ns != 0) segments->due_ns = begin_ns + spent_ns * kCostShare;
}

void DropCheckpoint(Drain* drain) {
  Segments* const segments = &drain->segments;
  if (segments->making == nullptr) return;
  segments->making->Close();
  segments->making = nullptr;
  sys::Madvise(segments->memory, Checkpoint::MostBytes(), MADV_DONTNEED);
}

void ForgetSegmentFiles(Drain* drain) {
  if (drain->segments.making != nullptr) drain->segments.making->Forget();
  if (drain->segments.memory != nullptr) {
    sys::Munmap(drain->segments.memory, Checkpoint::MostBytes());
  }
  CloseOwnFile(&drain->segments.scratch, false);
}

}  // namespace ollamatrace
