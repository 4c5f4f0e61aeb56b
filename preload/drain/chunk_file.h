#ifndef OLLAMATRACE_PRELOAD_DRAIN_CHUNK_FILE_H_
#define OLLAMATRACE_PRELOAD_DRAIN_CHUNK_FILE_H_

// Reads back a file of chunks that the drain wrote, chunk by chunk. Believes nothing: somebody may
// have changed the file.

#include <cstddef>
#include <cstdint>

#include "formats/chunk_unpacker.h"
#include "formats/chunk_writer.h"
#include "formats/journal_layout.h"
#include "preload/journal/own_file.h"

namespace ollamatrace {

class ChunkFile {
 public:
  static constexpr size_t kRawBytes = kStagingBytes;  // of the largest chunk
  static constexpr size_t kFrameBytes = ColumnChunkBound(kRawBytes);

  // Zeroed memory: the unpacker's workspace, kFrameBytes and kRawBytes.
  bool Init(void* workspace, size_t workspace_bytes, uint8_t* frame, uint8_t* raw) {
    frame_ = frame;
    raw_ = raw;
    return InitChunkUnpacker(&unpacker_, workspace, workspace_bytes);
  }

  // Goes to the beginning of a file of `bytes`.
  void Open(const char* path, uint64_t device, uint64_t inode, uint64_t bytes) {
    Close();
    NameOwnFile(&file_, path, device, inode);
    end_ = bytes;
    position_ = 0;
  }
  void Close() {
    CloseOwnFile(&file_, false);
    position_ = end_ = 0;
  }

  bool AtEnd() const { return position_ >= end_; }
  uint64_t position() const { return position_; }
  // Unpacks the next chunk: *size bytes of kind() at raw(). 0, or -errno: -EBADMSG when it is
  // damaged.
  long Next(size_t* size);
  const uint8_t* raw() const { return raw_; }
  uint16_t kind() const { return kind_; }

 private:
  OwnFile file_;
  ChunkUnpacker unpacker_;
  uint8_t* frame_ = nullptr;
  uint8_t* raw_ = nullptr;
  uint16_t kind_ = 0;
  uint64_t position_ = 0;
  uint64_t end_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_CHUNK_FILE_H_
