// Decodes records. The layouts are those of encode.cc and FORMAT.md.
#ifndef OLLAMATRACE_FORMATS_RECORD_DECODER_H_
#define OLLAMATRACE_FORMATS_RECORD_DECODER_H_

#include <cstddef>
#include <cstdint>
#include <memory>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "formats/column_reader.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

// Believes nothing: any bytes give records or an error. Allocates for error texts and, once, for
// columns. Not thread-safe.
class RecordDecoder {
 public:
  // `visitor` receives the records and must outlive the decoder.
  explicit RecordDecoder(TraceVisitor& visitor) : visitor_(visitor) {}

  // An encoded Header record (not owned) that stands in when the first record is none: the
  // journal's, when the trace's own is lost. Only the first header is delivered.
  void set_substitute_header(absl::string_view record) { substitute_header_ = record; }

  // A chunk begins: the delta state starts afresh.
  void StartChunk() { state_ = {}; }

  // Delivers the records of `bytes`, which begin and end with a record. Errors: DataLoss (a bad or
  // a cut record; those before it were delivered), FailedPrecondition (a header of a newer
  // version).
  absl::Status Decode(absl::string_view bytes);

  // The same for a chunk of columns.
  absl::Status DecodeColumns(absl::string_view bytes);

  bool header_seen() const { return header_seen_; }
  // An End record that is not merely a segment's.
  bool end_seen() const { return end_seen_; }
  // Records of kinds that this reader does not know, skipped.
  uint64_t unknown_records() const { return unknown_records_; }
  // The greatest time of a record so far; 0: none had one.
  uint64_t last_ns() const { return last_ns_; }

 private:
  class Cursor;
  // What the next event is a delta against.
  struct State {
    uint64_t time_ns = 0;
    uint64_t address = 0;
    uint32_t thread = 0;
    uint32_t stack = 0;
  };

  absl::Status DeliverSubstituteHeader();
  void DecodeEvent(uint8_t tag, Cursor& in);
  // `in` is the record's payload.
  absl::Status DecodePayload(uint8_t tag, Cursor& in);
  void Saw(uint64_t time_ns) {
    if (time_ns > last_ns_) last_ns_ = time_ns;
  }

  TraceVisitor& visitor_;
  std::unique_ptr<ColumnReader> columns_;  // made when it is needed
  absl::string_view substitute_header_;
  State state_;
  uint64_t unknown_records_ = 0;
  uint64_t last_ns_ = 0;
  bool header_seen_ = false;
  bool end_seen_ = false;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_RECORD_DECODER_H_
