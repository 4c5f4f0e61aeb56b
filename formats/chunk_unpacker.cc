#include "formats/chunk_unpacker.h"

// For a decompressor in memory of ours: ZSTD_initStaticDCtx.
#define ZSTD_STATIC_LINKING_ONLY
#include <zstd.h>

namespace ollamatrace {

size_t ChunkUnpackerBytes() { return ZSTD_estimateDCtxSize(); }

bool InitChunkUnpacker(ChunkUnpacker* unpacker, void* workspace, size_t workspace_bytes) {
  unpacker->context = ZSTD_initStaticDCtx(workspace, workspace_bytes);
  return unpacker->context != nullptr;
}

bool UnpackChunk(ChunkUnpacker* unpacker, const uint8_t* frame, size_t frame_bytes, uint8_t* raw,
                 size_t raw_bytes) {
  const size_t got = ZSTD_decompressDCtx(static_cast<ZSTD_DCtx*>(unpacker->context), raw, raw_bytes,
                                         frame, frame_bytes);
  return ZSTD_isError(got) == 0 && got == raw_bytes;
}

}  // namespace ollamatrace
