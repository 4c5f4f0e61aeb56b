#ifndef OLLAMATRACE_PRELOAD_DRAIN_STAGING_H_
#define OLLAMATRACE_PRELOAD_DRAIN_STAGING_H_

// The way from records to the trace: records are encoded into the journal's staging section, which
// becomes a chunk of the trace when enough is there.
//
// Functions that stage answer false when there is no room for all they would write; then they wrote
// nothing. What is staged counts from the commit of the batch on.

#include <cstdint>

#include "formats/chunk_writer.h"
#include "formats/column_writer.h"
#include "formats/encode.h"
#include "preload/drain/node_path.h"
#include "preload/drain/undo_log.h"
#include "preload/journal/journal.h"

namespace ollamatrace {

class Staging {
 public:
  // Zeroed memory: `written` a bit for each node. `columns` and `column_bytes`, kStagingBytes, are
  // given when chunks are to be columns, else nullptr.
  void Init(Journal* journal, OwnFile* trace, uint64_t* written, uint8_t* chunk, size_t chunk_bytes,
            ColumnWriter* columns, uint8_t* column_bytes) {
    journal_ = journal;
    trace_ = trace;
    written_ = written;
    chunk_ = chunk;
    chunk_bytes_ = chunk_bytes;
    columns_ = columns;
    column_bytes_ = column_bytes;
    bytes_ = 0;
    full_ = false;
    chunks_ = 0;
    trace_end_ = 0;
    events_ = 0;
    blocks_ = 0;
    delta_ = {};
  }
  ChunkWriter* writer() { return &writer_; }

  uint32_t bytes() const { return bytes_; }
  uint32_t chunks() const { return chunks_; }
  uint64_t trace_end() const { return trace_end_; }
  uint64_t events() const { return events_; }  // in the file's chunks
  // Live by the events of all files, about: a free of a block that is not known counts, too.
  uint64_t blocks() const { return blocks_; }
  OwnFile* trace() const { return trace_; }
  bool HasRoom(size_t bytes) {
    if (bytes_ + bytes <= kStagingBytes) return true;
    full_ = true;
    return false;
  }
  // Something found no room since the last chunk was written.
  bool full() const { return full_; }

  // Stages the nodes of the stack that the trace doesn't have yet, outermost first, when there is
  // room for them and for `more` bytes.
  bool Stack(uint32_t stack, size_t more) {
    if (stack == 0 || stack >= kMaxNodes || IsNodeWritten(written_, stack)) return HasRoom(more);
    return StackSlow(stack, more);
  }

  bool Alloc(const AllocRecord& record) {
    if (!Stack(static_cast<uint32_t>(record.stack), kEventBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeAlloc(&delta_, record, end()));
    ++blocks_;
    DrainStep();
    return true;
  }
  bool Free(const FreeRecord& record) {
    if (!HasRoom(kEventBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeFree(&delta_, record, end()));
    if (blocks_ != 0) --blocks_;
    DrainStep();
    return true;
  }
  bool Pair(const AllocRecord& alloc, const FreeRecord& free) {
    if (!Stack(static_cast<uint32_t>(alloc.stack), 2 * kEventBytes)) return false;
    return Alloc(alloc) && Free(free);
  }
  bool Map(const MapRecord& record) {
    if (!Stack(static_cast<uint32_t>(record.stack), kEventBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeMap(&delta_, record, end()));
    DrainStep();
    return true;
  }
  bool Unmap(const UnmapRecord& record) {
    if (!HasRoom(kEventBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeUnmap(&delta_, record, end()));
    DrainStep();
    return true;
  }
  bool Counters(const CountersRecord& record) {
    if (!Stack(static_cast<uint32_t>(record.stack), kCountersBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeCounters(record, end()));
    DrainStep();
    return true;
  }
  bool Weights(const WeightSlot& slot) {
    if (!Stack(slot.stack, kWeightsBytes)) return false;
    WeightsRecord record;
    record.stack = StackId{slot.stack};
    record.domain = static_cast<Domain>(slot.domain & ~kWeightSlot);
    record.blocks = slot.blocks;
    record.bytes = slot.bytes;
    record.blocks_variance = slot.blocks_variance;
    record.bytes_variance = slot.bytes_variance;
    bytes_ += static_cast<uint32_t>(EncodeWeights(record, end()));
    DrainStep();
    return true;
  }
  bool ThreadEnd(const ThreadEndRecord& record) {
    if (!HasRoom(kSmallRecordBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeThreadEnd(record, end()));
    return true;
  }
  bool Loss(const LossRecord& record) {
    if (!HasRoom(kSmallRecordBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeLoss(record, end()));
    return true;
  }
  bool Sample(const SampleRecord& record) {
    if (!HasRoom(kSampleBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeSample(record, end()));
    return true;
  }
  bool MemoryMap(const MemoryMapRecord& record) {
    if (!HasRoom(kMemoryMapBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeMemoryMap(record, end()));
    return true;
  }
  bool End(const EndRecord& record) {
    if (!HasRoom(kSmallRecordBytes)) return false;
    bytes_ += static_cast<uint32_t>(EncodeEnd(record, end()));
    return true;
  }
  // An encoded record.
  bool Encoded(const uint8_t* record, size_t size) {
    if (!HasRoom(size)) return false;
    memcpy(end(), record, size);
    bytes_ += static_cast<uint32_t>(size);
    DrainStep();
    return true;
  }
  // The encoded record that lies in the ring of definitions at `position`.
  bool Definition(uint64_t position, uint32_t size);

  // What is staged from now on is for another file, which the caller puts in place of trace() after
  // the commit: it begins with the header of that segment. Nothing is staged.
  void BeginFile(uint32_t segment, uint64_t segment_ns);

  // Appends what is staged, and committed, to the file. 0: the caller now commits
  // Written(): the staging section is empty, the trace longer. Otherwise -errno, and nothing
  // changed.
  long WriteChunkToFile();

 private:
  uint8_t* end() const { return journal_->staging() + bytes_; }
  bool StackSlow(uint32_t stack, size_t more);
  // What is staged, as a chunk in chunk_. Its size; 0: it cannot be made.
  size_t MakeChunk();

  Journal* journal_;
  OwnFile* trace_;
  uint64_t* written_;
  uint8_t* chunk_;
  size_t chunk_bytes_;
  ColumnWriter* columns_;
  uint8_t* column_bytes_;
  ChunkWriter writer_;
  DeltaState delta_;
  uint32_t bytes_;
  bool full_;
  uint32_t chunks_;
  uint64_t trace_end_;
  uint64_t events_;
  uint64_t blocks_;
  uint32_t path_[kMaxStackDepth];
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_STAGING_H_
