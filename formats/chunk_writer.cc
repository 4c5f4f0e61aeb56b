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

namespace {

constexpr size_t kLeastBlockBytes = 512;

size_t Indexed(ChunkKind kind, uint32_t number, const ChunkStats& stats, size_t raw_bytes,
               size_t frame_bytes, uint8_t* out) {
  ChunkIndex index;
  index.kind = static_cast<uint16_t>(kind);
  index.number = number;
  index.raw_bytes = static_cast<uint32_t>(raw_bytes);
  index.frame_bytes = static_cast<uint32_t>(frame_bytes);
  index.events = stats.events;
  index.first_ns = stats.first_ns;
  index.last_ns = stats.last_ns;
  PutIndexFrame(index, out);
  return kIndexFrameBytes + frame_bytes;
}

}  // namespace

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
      ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 1)) != 0 ||
      // Input and output stay in place until a chunk is complete: no buffers in between.
      ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_stableInBuffer, 1)) != 0 ||
      ZSTD_isError(ZSTD_CCtx_setParameter(context, ZSTD_c_stableOutBuffer, 1)) != 0) {
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
  return Indexed(ChunkKind::kRecords, number, stats, raw_bytes, frame_bytes, out);
}

size_t WriteColumnChunk(ChunkWriter* writer, uint32_t number, const ChunkStats& stats,
                        const uint8_t* raw, const size_t* ends, uint8_t* out, size_t capacity) {
  const size_t raw_bytes = ends[kColumnCount];
  if (writer->context == nullptr || raw_bytes == 0 || raw_bytes > kMaxChunkBytes ||
      capacity < ColumnChunkBound(raw_bytes)) {
    return 0;
  }
  ZSTD_CCtx* const context = static_cast<ZSTD_CCtx*>(writer->context);
  if (ZSTD_isError(ZSTD_CCtx_reset(context, ZSTD_reset_session_only)) != 0 ||
      ZSTD_isError(ZSTD_CCtx_setPledgedSrcSize(context, raw_bytes)) != 0) {
    return 0;
  }
  ZSTD_inBuffer input = {raw, 0, 0};
  ZSTD_outBuffer output = {out + kIndexFrameBytes, capacity - kIndexFrameBytes, 0};
  for (uint32_t column = 0; column <= kColumnCount; ++column) {
    input.size = ends[column];
    const bool last = column == kColumnCount;
    // A block of its own does not pay for a few bytes.
    if (!last && input.size - input.pos < kLeastBlockBytes) continue;
    if (ZSTD_compressStream2(context, &output, &input, last ? ZSTD_e_end : ZSTD_e_flush) != 0) {
      return 0;
    }
  }
  return Indexed(ChunkKind::kColumns, number, stats, raw_bytes, output.pos, out);
}

}  // namespace ollamatrace
