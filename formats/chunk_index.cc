#include "formats/chunk_index.h"

#include <cstring>

namespace ollamatrace {
namespace {

constexpr size_t kCrcOffset = kIndexPayloadBytes - 4;

uint8_t* PutFixed(uint8_t* out, uint64_t value, size_t bytes) {
  for (size_t i = 0; i < bytes; ++i) *out++ = static_cast<uint8_t>(value >> (8 * i));
  return out;
}

uint64_t GetFixed(const uint8_t** in, size_t bytes) {
  uint64_t value = 0;
  for (size_t i = 0; i < bytes; ++i) value |= static_cast<uint64_t>(*(*in)++) << (8 * i);
  return value;
}

}  // namespace

// Bit by bit: an index is 44 bytes, once per chunk, and a table would be 1 KiB of the injected
// library.
uint32_t Crc32(const uint8_t* data, size_t size) {
  uint32_t crc = ~uint32_t{0};
  for (size_t i = 0; i < size; ++i) {
    crc ^= data[i];
    for (int bit = 0; bit < 8; ++bit) crc = (crc >> 1) ^ ((crc & 1) != 0 ? 0xEDB88320u : 0u);
  }
  return ~crc;
}

void PutIndexFrame(const ChunkIndex& index, uint8_t* out) {
  uint8_t* p = PutFixed(out, kIndexFrameMagic, 4);
  p = PutFixed(p, kIndexPayloadBytes, 4);
  const uint8_t* payload = p;
  memcpy(p, kIndexMagic, sizeof(kIndexMagic));
  p += sizeof(kIndexMagic);
  p = PutFixed(p, index.version, 2);
  p = PutFixed(p, index.kind, 2);
  p = PutFixed(p, index.number, 4);
  p = PutFixed(p, index.raw_bytes, 4);
  p = PutFixed(p, index.frame_bytes, 4);
  p = PutFixed(p, index.events, 4);
  p = PutFixed(p, index.first_ns, 8);
  p = PutFixed(p, index.last_ns, 8);
  p = PutFixed(p, 0, 4);
  PutFixed(p, Crc32(payload, kCrcOffset), 4);
}

IndexResult GetIndex(const uint8_t* payload, size_t size, ChunkIndex* index) {
  if (size < kIndexPayloadBytes || memcmp(payload, kIndexMagic, sizeof(kIndexMagic)) != 0) {
    return IndexResult::kNotAnIndex;
  }
  const uint8_t* crc = payload + kCrcOffset;
  if (GetFixed(&crc, 4) != Crc32(payload, kCrcOffset)) return IndexResult::kBadChecksum;
  const uint8_t* p = payload + sizeof(kIndexMagic);
  index->version = static_cast<uint16_t>(GetFixed(&p, 2));
  index->kind = static_cast<uint16_t>(GetFixed(&p, 2));
  index->number = static_cast<uint32_t>(GetFixed(&p, 4));
  index->raw_bytes = static_cast<uint32_t>(GetFixed(&p, 4));
  index->frame_bytes = static_cast<uint32_t>(GetFixed(&p, 4));
  index->events = static_cast<uint32_t>(GetFixed(&p, 4));
  index->first_ns = GetFixed(&p, 8);
  index->last_ns = GetFixed(&p, 8);
  return IndexResult::kOk;
}

}  // namespace ollamatrace
