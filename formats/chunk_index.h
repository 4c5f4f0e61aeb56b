// The index of a chunk: the payload of the skippable frame before the chunk's zstd frame. Both
// sides share this file.
#ifndef OLLAMATRACE_FORMATS_CHUNK_INDEX_H_
#define OLLAMATRACE_FORMATS_CHUNK_INDEX_H_

#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace {

// A skippable frame's header: magic and payload size, both u32 little endian (RFC 8878, 3.1.2).
inline constexpr size_t kSkippableHeaderBytes = 8;
inline constexpr size_t kIndexPayloadBytes = 48;
inline constexpr size_t kIndexFrameBytes = kSkippableHeaderBytes + kIndexPayloadBytes;
// A longer payload is one that a later version appended to: read the first kIndexPayloadBytes. None
// is longer than this.
inline constexpr size_t kMaxIndexPayloadBytes = 4096;

enum class ChunkKind : uint16_t {
  kRecords = 0,
  kColumns = 1,  // see column_writer.h
};

// Payload, little endian: char[4] kIndexMagic, u16 version, u16 kind, u32 number, u32 raw_bytes,
// u32 frame_bytes, u32 events, u64 first_ns, u64 last_ns, u32 zero, u32 CRC-32 of the 44 bytes
// before it.
struct ChunkIndex {
  uint16_t version = kTraceVersion;
  uint16_t kind = 0;         // ChunkKind; a reader skips chunks of a kind it does not know
  uint32_t number = 0;       // of the chunk in the trace, from 0
  uint32_t raw_bytes = 0;    // of the records or columns, 1 to kMaxChunkBytes
  uint32_t frame_bytes = 0;  // of the zstd frame that follows
  uint32_t events = 0;       // Alloc, Free, Map and Unmap records in it
  uint64_t first_ns = 0;     // smallest and greatest time of these; both 0 when there are none
  uint64_t last_ns = 0;
};

// CRC-32 as in zlib, gzip and Ethernet (polynomial 0xEDB88320, reflected, inverted).
uint32_t Crc32(const uint8_t* data, size_t size);

// Writes the whole skippable frame, kIndexFrameBytes, at `out`.
void PutIndexFrame(const ChunkIndex& index, uint8_t* out);

enum class IndexResult : uint8_t { kOk, kNotAnIndex, kBadChecksum };

// Reads the index from the payload of a skippable frame. kNotAnIndex: too short, or another magic;
// kBadChecksum: the index is damaged. The values are not judged beyond that.
IndexResult GetIndex(const uint8_t* payload, size_t size, ChunkIndex* index);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_CHUNK_INDEX_H_
