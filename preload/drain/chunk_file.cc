#include "preload/drain/chunk_file.h"

#include <errno.h>

namespace ollamatrace {

long ChunkFile::Next(size_t* size) {
  uint8_t head[kIndexFrameBytes];
  if (end_ - position_ < sizeof head) return -EBADMSG;
  long failure = ReadOwnFile(&file_, head, sizeof head, position_);
  if (failure != 0) return failure;
  ChunkIndex index;
  if (GetIndex(head + kSkippableHeaderBytes, kIndexPayloadBytes, &index) != IndexResult::kOk ||
      index.raw_bytes == 0 || index.raw_bytes > kRawBytes || index.frame_bytes > kFrameBytes ||
      index.frame_bytes > end_ - position_ - sizeof head ||
      index.kind > static_cast<uint16_t>(ChunkKind::kColumns)) {
    return -EBADMSG;
  }
  failure = ReadOwnFile(&file_, frame_, index.frame_bytes, position_ + sizeof head);
  if (failure != 0) return failure;
  if (!UnpackChunk(&unpacker_, frame_, index.frame_bytes, raw_, index.raw_bytes)) return -EBADMSG;
  position_ += sizeof head + index.frame_bytes;
  *size = index.raw_bytes;
  kind_ = index.kind;
  return 0;
}

}  // namespace ollamatrace
