#include "formats/chunk_scanner.h"

#include <zstd.h>

#include <algorithm>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

constexpr size_t kMaxFrameBytes = ZSTD_COMPRESSBOUND(size_t{kMaxChunkBytes});
constexpr uint64_t kRescanBytes = 64u << 20;
constexpr size_t kSearchBytes = 64u << 10;

uint32_t GetFixed32(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8 |
         static_cast<uint32_t>(p[2]) << 16 | static_cast<uint32_t>(p[3]) << 24;
}

}  // namespace

ChunkScanner::ChunkScanner(ByteSource& source, uint64_t end, RecordDecoder& decoder,
                           ReadSummary& summary)
    : source_(source),
      end_(end),
      decoder_(decoder),
      summary_(summary),
      context_(ZSTD_createDCtx()),
      rescan_budget_(end + kRescanBytes) {}

ChunkScanner::~ChunkScanner() { ZSTD_freeDCtx(context_); }

ChunkScanner::Place ChunkScanner::Look(uint64_t offset) {
  Place place;
  uint8_t bytes[kIndexFrameBytes];
  if (end_ - offset < sizeof(bytes) || !source_.ReadAll(offset, sizeof(bytes), bytes)) return place;
  const uint32_t payload_bytes = GetFixed32(bytes + 4);
  if (GetFixed32(bytes) != kIndexFrameMagic || payload_bytes < kIndexPayloadBytes ||
      payload_bytes > kMaxIndexPayloadBytes ||
      GetIndex(bytes + kSkippableHeaderBytes, kIndexPayloadBytes, &place.index) !=
          IndexResult::kOk) {
    return place;
  }
  place.is_index = place.index.version != 0;
  place.frame_offset = offset + kSkippableHeaderBytes + payload_bytes;
  return place;
}

uint64_t ChunkScanner::FindIndex(uint64_t offset, bool* only_zeros) {
  // Consecutive blocks overlap by what the test of one place looks at.
  constexpr size_t kLook = kSkippableHeaderBytes + sizeof(kIndexMagic);
  std::vector<uint8_t> block(kSearchBytes);
  *only_zeros = true;
  while (offset < end_) {
    const size_t size =
        source_.Read(offset, std::min<uint64_t>(block.size(), end_ - offset), block.data());
    *only_zeros = *only_zeros && std::all_of(block.begin(), block.begin() + size,
                                             [](uint8_t byte) { return byte == 0; });
    if (size < kLook) return end_;
    for (size_t i = 0; i + kLook <= size; ++i) {
      const void* found = memchr(&block[i], kIndexFrameMagic & 0xff, size - kLook + 1 - i);
      if (found == nullptr) break;
      i = static_cast<size_t>(static_cast<const uint8_t*>(found) - block.data());
      if (GetFixed32(&block[i]) == kIndexFrameMagic &&
          memcmp(&block[i + kSkippableHeaderBytes], kIndexMagic, sizeof(kIndexMagic)) == 0 &&
          Look(offset + i).is_index) {
        return offset + i;
      }
    }
    offset += size - kLook + 1;
  }
  return end_;
}

absl::Status ChunkScanner::Scan() {
  while (position_ < end_) {
    const Place place = Look(position_);
    if (place.is_index) {
      found_any_ = true;
      absl::Status status = ReadChunk(place);
      if (!status.ok()) return status;
    } else {
      SkipUnreadable(position_);
    }
    if (source_.error() != 0) {
      return absl::InternalError(
          absl::StrCat("reading failed at byte ", position_, ": ", strerror(source_.error())));
    }
    if (progress_) progress_(position_, end_);
  }
  return absl::OkStatus();
}

void ChunkScanner::SkipUnreadable(uint64_t begin) {
  // A few bytes that an index frame could begin with are a cut, and zeros are space that was
  // reserved and never written.
  static constexpr uint8_t kStart[] = {kIndexFrameMagic & 0xff,
                                       kIndexFrameMagic >> 8 & 0xff,
                                       kIndexFrameMagic >> 16 & 0xff,
                                       kIndexFrameMagic >> 24,
                                       kIndexPayloadBytes & 0xff,
                                       0,
                                       0,
                                       0};
  uint8_t start[sizeof(kStart)];
  const size_t size = source_.Read(begin, std::min<uint64_t>(sizeof(start), end_ - begin), start);
  const bool begun = end_ - begin < kIndexFrameBytes && memcmp(start, kStart, size) == 0;

  bool only_zeros = false;
  position_ = FindIndex(begin + 1, &only_zeros);
  summary_.dropped_bytes += position_ - begin;
  if (position_ < end_) {
    unreadable_before_ = true;  // the next chunk's number says how many chunks that was
    return;
  }
  if (!found_any_) return;  // no trace at all: the caller's to say
  if (begun || (only_zeros && size != 0 && start[0] == 0)) {
    summary_.truncated = true;
    summary_.AddNote(absl::StrCat("the file ends inside a chunk (truncated): its last ",
                                  end_ - begin, " bytes were dropped"));
  } else {
    ++summary_.damaged_chunks;
    summary_.AddNote(absl::StrCat("the last ", end_ - begin, " bytes, from byte ", begin,
                                  " on, are damaged: skipped"));
  }
}

void ChunkScanner::Damaged(const ChunkIndex& index, absl::string_view why, uint64_t next) {
  ++summary_.damaged_chunks;
  summary_.dropped_bytes += next - position_;
  summary_.AddNote(absl::StrCat("chunk ", index.number, " at byte ", position_,
                                " is damaged: skipped (", why, ")"));
  position_ = next;
}

absl::Status ChunkScanner::ReadChunk(const Place& place) {
  const ChunkIndex& index = place.index;
  if (index.version > kTraceVersion) {
    return absl::FailedPreconditionError(absl::StrCat(
        "format version ", index.version, " is newer than this reader's ", kTraceVersion));
  }
  if (index.number > expected_number_) {
    const uint64_t missing = index.number - expected_number_;
    summary_.damaged_chunks += missing;
    summary_.AddNote(absl::StrCat(missing, missing == 1 ? " chunk" : " chunks", " before byte ",
                                  position_, missing == 1 ? " is" : " are",
                                  " damaged or missing: skipped"));
  } else if (unreadable_before_) {
    ++summary_.damaged_chunks;
    summary_.AddNote(absl::StrCat("bytes before byte ", position_, " are damaged: skipped"));
  }
  unreadable_before_ = false;
  expected_number_ = uint64_t{index.number} + 1;

  bool only_zeros = false;
  if (index.raw_bytes == 0 || index.raw_bytes > kMaxChunkBytes || index.frame_bytes == 0 ||
      index.frame_bytes > kMaxFrameBytes) {
    Damaged(index, "impossible length", FindIndex(position_ + 4, &only_zeros));
    return absl::OkStatus();
  }
  const uint64_t next = place.frame_offset + index.frame_bytes;
  if (next > end_) {
    // Cut at the end, or something is missing inside and later chunks lie within its bounds.
    const uint64_t found = FindIndex(position_ + 4, &only_zeros);
    if (found < end_) {
      Damaged(index, "cut", found);
      return absl::OkStatus();
    }
    summary_.truncated = true;
    summary_.dropped_bytes += end_ - position_;
    summary_.AddNote(absl::StrCat("the file ends inside chunk ", index.number,
                                  " (truncated): its last ", end_ - position_,
                                  " bytes were dropped"));
    position_ = end_;
    return absl::OkStatus();
  }
  frame_.resize(index.frame_bytes);
  if (!source_.ReadAll(place.frame_offset, frame_.size(), frame_.data())) {
    Damaged(index, "the file shrank while it was read", end_);
    return absl::OkStatus();
  }
  const auto kind = static_cast<ChunkKind>(index.kind);
  if (kind != ChunkKind::kRecords && kind != ChunkKind::kColumns) {
    ++summary_.unknown_records;
    position_ = next;
    return absl::OkStatus();
  }
  std::string why;
  const char* records = Unpack(index, why);
  if (records == nullptr) {
    uint64_t found = next;
    if (rescan_budget_ >= next - position_) {
      rescan_budget_ -= next - position_;
      found = FindIndex(position_ + 4, &only_zeros);
    }
    Damaged(index, why, found);
    return absl::OkStatus();
  }
  ++summary_.chunks;
  const absl::string_view bytes(records, index.raw_bytes);
  decoder_.StartChunk();
  absl::Status status =
      kind == ChunkKind::kRecords ? decoder_.Decode(bytes) : decoder_.DecodeColumns(bytes);
  if (absl::IsDataLoss(status)) {
    // Written so: its checksum is right.
    ++summary_.damaged_chunks;
    summary_.AddNote(absl::StrCat("the rest of chunk ", index.number, " at byte ", position_,
                                  " was skipped: ", status.message()));
    status = absl::OkStatus();
  }
  position_ = next;
  return status;
}

const char* ChunkScanner::Unpack(const ChunkIndex& index, std::string& why) {
  const size_t size = frame_.size();
  // The declared size of a frame that is none, or a skippable one, is never raw_bytes.
  // The frame header's descriptor tells whether there is a checksum (RFC 8878, 3.1.1.1.1).
  constexpr size_t kDescriptor = 4;
  constexpr char kHasChecksum = 1 << 2;
  if (size <= kDescriptor || ZSTD_getFrameContentSize(frame_.data(), size) != index.raw_bytes ||
      ZSTD_findFrameCompressedSize(frame_.data(), size) != size) {
    why = "its frame is not what its index says";
    return nullptr;
  }
  if ((frame_[kDescriptor] & kHasChecksum) == 0) {
    why = "no checksum";
    return nullptr;
  }
  records_.resize(index.raw_bytes);
  const size_t got =
      ZSTD_decompressDCtx(context_, records_.data(), records_.size(), frame_.data(), size);
  if (ZSTD_isError(got) != 0 || got != index.raw_bytes) {
    why = ZSTD_isError(got) != 0 ? ZSTD_getErrorName(got) : "too short";
    return nullptr;
  }
  return records_.data();
}

}  // namespace ollamatrace
