// Finds the chunks of a trace, one after the other, and steps over damage.
#ifndef OLLAMATRACE_FORMATS_CHUNK_SCANNER_H_
#define OLLAMATRACE_FORMATS_CHUNK_SCANNER_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "formats/byte_source.h"
#include "formats/chunk_index.h"
#include "formats/read_summary.h"
#include "formats/record_decoder.h"

struct ZSTD_DCtx_s;

namespace ollamatrace {

// Nothing of a chunk is believed before its index's checksum, its sizes, the bounds of the file and
// the frame's checksum were found right. A damaged chunk is skipped, counted and noted; scanning
// goes on at the next index. Memory: the largest chunk, compressed and not, at most twice
// kMaxChunkBytes and a little. Time: linear in the source's size.
class ChunkScanner {
 public:
  // All must outlive the scanner. Reads [0, end) of `source`, `end` being at most its size.
  ChunkScanner(ByteSource& source, uint64_t end, RecordDecoder& decoder, ReadSummary& summary);
  ~ChunkScanner();

  // Called after each chunk with the bytes done and `end`.
  void set_progress(std::function<void(uint64_t, uint64_t)> progress) {
    progress_ = std::move(progress);
  }

  // Errors: FailedPrecondition (a newer format version), Internal (reading failed).
  absl::Status Scan();

  // Whether there was a chunk's index at all, its chunk readable or not.
  bool found_any() const { return found_any_; }

 private:
  // What lies at an offset.
  struct Place {
    bool is_index = false;
    ChunkIndex index;
    uint64_t frame_offset = 0;
  };

  Place Look(uint64_t offset);
  // The first index at or after `offset`, or end_.
  uint64_t FindIndex(uint64_t offset, bool* only_zeros);
  void SkipUnreadable(uint64_t begin);
  // Handles the chunk at position_ and moves behind it.
  absl::Status ReadChunk(const Place& place);
  // nullptr, with the reason in `why`, when the frame is not what its index says.
  const char* Unpack(const ChunkIndex& index, std::string& why);
  void Damaged(const ChunkIndex& index, absl::string_view why, uint64_t next);

  ByteSource& source_;
  const uint64_t end_;
  RecordDecoder& decoder_;
  ReadSummary& summary_;
  std::function<void(uint64_t, uint64_t)> progress_;
  ZSTD_DCtx_s* const context_;
  std::vector<char> frame_;
  std::vector<char> records_;
  uint64_t position_ = 0;
  uint64_t expected_number_ = 0;
  // Bytes that may be searched for an index although a chunk's index claims them: keeps files of
  // nothing but claims from costing more than their size.
  uint64_t rescan_budget_;
  bool unreadable_before_ = false;
  bool found_any_ = false;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_CHUNK_SCANNER_H_
