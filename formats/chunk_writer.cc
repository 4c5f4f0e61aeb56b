#include "formats/chunk_writer.h"

// For a compressor in memory of ours: ZSTD_initStaticCCtx. The library is linked statically, so
// that its version is the header's.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

namespace ollamatrace {

static_assert(ChunkBound(0) >= ZSTD_COMPRESSBOUND(size_t{0}) + kIndexFrameBytes);
static_assert(ChunkBound(1) >= ZSTD_COMPRESSBOUND(size_t{1}) + kIndexFrameBytes);
static_assert(ChunkBound(kTargetChunkBytes) >=
              ZSTD_COMPRESSBOUND(size_t{kTargetChunkBytes}) + kIndexFrameBytes);
static_assert(ChunkBound(kMaxChunkBytes) >=
              ZSTD_COMPRESSBOUND(size_t{kMaxChunkBytes}) + kIndexFrameBytes);

size_t ChunkWorkspaceBytes(int level) {
  if (level < 1 || level > kMaxChunkLevel) return 0;
  return ZSTD_estimateCCtxSize(level);
}

bool InitChunkWriter(ChunkWriter* writer, void* workspace, size_t workspace_bytes, int level) {
  writer->context = nullptr;
  if (level < 1 || level > kMaxChunkLevel || workspace_bytes < ChunkWorkspaceBytes(level)) {
    return false;
  }
  ZSTD_CCtx* context = ZSTD_initStaticCCtx(workspace, workspace_bytes);
  if (context == nullptr) return false;
  if (ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, level)) != 0 ||
      ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_checksumFlag, 1)) != 0 ||
      ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 1)) != 0) {
    return false;
  }
  writer->context = context;
  return true;
}

size_t WriteChunk(ChunkWriter* writer, uint32_t number, const ChunkStats& stats, const uint8_t* raw,
                  size_t raw_bytes, uint8_t* out, size_t capacity) {
  if (writer->context == nullptr || raw_bytes == 0 || raw_bytes > kMaxChunkBytes ||
      capacity < ChunkBound(raw_bytes)) {
    return 0;
  }
  // One call with all the input: the frame header then declares the content's size, which the
  // reader relies on.
  const size_t frame_bytes =
      ZSTD_compress2(static_cast<ZSTD_CCtx*>(writer->context), out + kIndexFrameBytes,
                     capacity - kIndexFrameBytes, raw, raw_bytes);
  if (ZSTD_isError(frame_bytes) != 0) return 0;
  ChunkIndex index;
  index.kind = static_cast<uint16_t>(ChunkKind::kRecords);
  index.number = number;
  index.raw_bytes = static_cast<uint32_t>(raw_bytes);
  index.frame_bytes = static_cast<uint32_t>(frame_bytes);
  index.events = stats.events;
  index.first_ns = stats.first_ns;
  index.last_ns = stats.last_ns;
  PutIndexFrame(index, out);
  return kIndexFrameBytes + frame_bytes;
}

}  // namespace ollamatrace
