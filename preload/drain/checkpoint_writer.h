#ifndef OLLAMATRACE_PRELOAD_DRAIN_CHECKPOINT_WRITER_H_
#define OLLAMATRACE_PRELOAD_DRAIN_CHECKPOINT_WRITER_H_

// The records of a checkpoint on their way to its file. Unlike what the staging section holds, they
// need not survive a kill: the file counts when it is whole.

#include <cstdint>

#include "formats/chunk_writer.h"
#include "formats/encode.h"
#include "preload/journal/journal.h"
#include "preload/journal/own_file.h"

namespace ollamatrace {

class CheckpointWriter {
 public:
  // What one call below may need: a stack's nodes, a definition, an event.
  static constexpr size_t kRoom = kMaxStackDepth * kNodeBytes + kMaxRecordBytes;
  static constexpr size_t kRawBytes = kTargetChunkBytes + kRoom;
  static constexpr size_t kChunkBytes = ChunkBound(kRawBytes);

  // Zeroed memory: kRawBytes, kChunkBytes, a bit for each node. `file` is empty. A chunk has about
  // `target_bytes` of records, at most kTargetChunkBytes.
  void Init(Journal* journal, ChunkWriter* writer, OwnFile* file, uint32_t target_bytes,
            uint8_t* raw, uint8_t* chunk, uint64_t* written) {
    target_bytes_ = target_bytes;
    journal_ = journal;
    writer_ = writer;
    file_ = file;
    raw_ = raw;
    chunk_ = chunk;
    written_ = written;
  }

  // The functions below need this to be true; otherwise Flush.
  bool HasRoom() const { return bytes_ <= target_bytes_; }
  // At most what Flush writes.
  uint64_t FlushBytes() const { return bytes_ == 0 ? 0 : ChunkBound(bytes_); }
  void Alloc(const AllocRecord& record) {
    Stack(static_cast<uint32_t>(record.stack));
    Count(EncodeAlloc(&delta_, record, end()));
  }
  void Map(const MapRecord& record) {
    Stack(static_cast<uint32_t>(record.stack));
    Count(EncodeMap(&delta_, record, end()));
  }
  void Dropped(const DroppedRecord& record) {
    Stack(static_cast<uint32_t>(record.stack));
    Count(EncodeDropped(record, end()));
  }
  void Sample(const SampleRecord& record) { Count(EncodeSample(record, end())); }
  void End(const EndRecord& record) { Count(EncodeEnd(record, end())); }
  // An encoded record of at most kMaxRecordBytes.
  void Encoded(const uint8_t* record, size_t size) {
    if (size > kMaxRecordBytes) return;
    __builtin_memcpy(end(), record, size);
    Count(size);
  }

  // The nodes of a stack that a record names.
  void Stack(uint32_t stack);

  // Writes a chunk of what is there. 0, or -errno.
  long Flush();
  uint64_t file_bytes() const { return file_bytes_; }

 private:
  uint8_t* end() const { return raw_ + bytes_; }
  void Count(size_t size) { bytes_ += static_cast<uint32_t>(size); }

  Journal* journal_;
  ChunkWriter* writer_;
  OwnFile* file_;
  uint8_t* raw_;
  uint8_t* chunk_;
  uint64_t* written_;
  DeltaState delta_;
  uint32_t target_bytes_;
  uint32_t bytes_;
  uint32_t chunks_;
  uint64_t file_bytes_;
  uint32_t path_[kMaxStackDepth];
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_CHECKPOINT_WRITER_H_
