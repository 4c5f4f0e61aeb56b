// Unpacks the chunks that the library itself wrote. Runs inside the traced process: the
// decompressor lives in memory that the caller gives, nothing is allocated.
#ifndef OLLAMATRACE_FORMATS_CHUNK_UNPACKER_H_
#define OLLAMATRACE_FORMATS_CHUNK_UNPACKER_H_

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

// A decompressor in memory of the caller's. Plain data; one thread at a time.
struct ChunkUnpacker {
  void* context = nullptr;  // ZSTD_DCtx inside the workspace
};

// Bytes of workspace that InitChunkUnpacker needs: about 96 KiB.
size_t ChunkUnpackerBytes();

// Lays the decompressor out in `workspace` (8-byte aligned; it must outlive the unpacker). False
// when it is too small or misaligned.
bool InitChunkUnpacker(ChunkUnpacker* unpacker, void* workspace, size_t workspace_bytes);

// Unpacks the zstd frame of a chunk to raw[0, raw_bytes). False: it is damaged, or not as long as
// that.
bool UnpackChunk(ChunkUnpacker* unpacker, const uint8_t* frame, size_t frame_bytes, uint8_t* raw,
                 size_t raw_bytes);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_CHUNK_UNPACKER_H_
