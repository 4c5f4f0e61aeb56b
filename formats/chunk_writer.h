// Turns the encoded records of one chunk, or their columns, into what is appended to the trace
// file: a skippable frame with the chunk's index, then a zstd frame with the records or columns.
// Runs inside the traced process: the compressor lives in memory that the caller gives, nothing is
// allocated.
#ifndef OLLAMATRACE_FORMATS_CHUNK_WRITER_H_
#define OLLAMATRACE_FORMATS_CHUNK_WRITER_H_

#include <cstddef>
#include <cstdint>

#include "formats/chunk_index.h"
#include "formats/column_model.h"
#include "formats/encode.h"
#include "formats/trace_format.h"

namespace ollamatrace {

inline constexpr int kMaxChunkLevel = 6;  // zstd levels 1 to 6 are accepted

// The room that WriteChunk needs for `raw_bytes` (at most kMaxChunkBytes) of records: the index and
// zstd's worst case (ZSTD_COMPRESSBOUND of zstd.h).
inline constexpr size_t ChunkBound(size_t raw_bytes) {
  return kIndexFrameBytes + raw_bytes + (raw_bytes >> 8) + 64;
}

// A compressor in memory of the caller's. Plain data; one thread at a time.
struct ChunkWriter {
  void* context = nullptr;  // ZSTD_CCtx inside the workspace
};

// Bytes of workspace that InitChunkWriter needs for `level`: 0.6 to 4 MiB.
size_t ChunkWorkspaceBytes(int level);

// Lays the compressor out in `workspace` (8-byte aligned; it must outlive the writer). False when
// it is too small or misaligned, or the level is not supported.
bool InitChunkWriter(ChunkWriter* writer, void* workspace, size_t workspace_bytes, int level);

// Writes the chunk that holds raw[0, raw_bytes) at `out` and returns its size; 0 when raw_bytes is
// 0 or above kMaxChunkBytes, when `capacity` is below ChunkBound(raw_bytes), or when zstd failed
// (which the bounds rule out). `number` counts the chunks of a trace from 0. The caller starts the
// next chunk with a fresh DeltaState.
size_t WriteChunk(ChunkWriter* writer, uint32_t number, const ChunkStats& stats, const uint8_t* raw,
                  size_t raw_bytes, uint8_t* out, size_t capacity);

// The same for columns: raw[0, ends[kColumnCount]), where the first one begins at ends[0] and the
// i-th ends at ends[i]. Columns have little in common: each begins a block of the frame. `capacity`
// is at least ColumnChunkBound(ends[kColumnCount]).
inline constexpr size_t ColumnChunkBound(size_t raw_bytes) {
  return ChunkBound(raw_bytes) + size_t{8} * kColumnCount;
}
size_t WriteColumnChunk(ChunkWriter* writer, uint32_t number, const ChunkStats& stats,
                        const uint8_t* raw, const size_t* ends, uint8_t* out, size_t capacity);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_CHUNK_WRITER_H_
