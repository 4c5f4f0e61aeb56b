// Turns the encoded records of a chunk into columns, which compress to a fraction. Runs inside the
// traced process: no allocation, no exceptions, no locks.
#ifndef OLLAMATRACE_FORMATS_COLUMN_WRITER_H_
#define OLLAMATRACE_FORMATS_COLUMN_WRITER_H_

#include <cstddef>
#include <cstdint>

#include "formats/column_model.h"
#include "formats/encode.h"

namespace ollamatrace {

// Times are kept in units of 2^kColumnTimeShift ns.
inline constexpr uint32_t kColumnTimeShift = 10;

// One chunk after the other; any memory will do, of which 2 MiB are touched by a chunk of 20,000
// events, and all of it, 20 MiB, never in practice. Not thread-safe.
class ColumnWriter {
 public:
  // Records of more bytes, or more allocations, are left as they are.
  static constexpr size_t kMaxRecordsBytes = size_t{512} << 10;
  static constexpr uint32_t kMaxAllocs = 49152;

  // Writes the columns of the records in raw[0, raw_bytes), whose delta state starts afresh, at
  // `out`, which has room for raw_bytes. Their size; 0 when they would not be smaller than the
  // records, or these are not what encode.h writes, or more than the limits allow.
  size_t Write(const uint8_t* raw, size_t raw_bytes, uint8_t* out);

  // Of the last columns written: where each ends in `out`.
  const size_t* ends() const { return ends_; }
  // Of the last columns written: the smallest and the greatest time of their events, as a reader
  // sees them.
  const ChunkStats& stats() const { return stats_; }

 private:
  static constexpr uint32_t kBuckets = 1u << 16;
  static constexpr size_t kColumnBytes = kMaxRecordsBytes;

  // The records' running state.
  struct Rows {
    uint64_t time_ns, address;
    uint32_t thread, stack;
  };

  void Start();
  bool Take(const uint8_t* raw, size_t raw_bytes);
  bool TakeAlloc(uint8_t function, uint64_t size);
  bool TakeFree();
  void Symbol(uint32_t coded, uint32_t symbol);
  void Moment();
  ColumnPlace PlaceOf(uint32_t entry, uint64_t address, uint64_t size, bool is_new) const;
  bool TakeNode(const uint8_t* payload, size_t size);
  // A record that goes as it is, with its delta state when it is an event.
  bool TakeRecord(const uint8_t* record, size_t size);
  void EndRun();
  void EndStretch();

  bool HasRoom(Column column, size_t bytes) const {
    const uint32_t c = static_cast<uint32_t>(column);
    return used_[c] + bytes <= kColumnBytes;
  }
  void Byte(Column column, uint8_t value) {
    const uint32_t c = static_cast<uint32_t>(column);
    columns_[c][used_[c]++] = value;
  }
  void Number(Column column, uint64_t value);
  void Kind(ColumnKind kind) { Byte(Column::kKinds, static_cast<uint8_t>(kind)); }

  uint32_t FindEntry(uint32_t stack, uint8_t function, uint32_t* bucket) const;
  // The block that was allocated last at `address`, in this chunk; 0: none.
  uint32_t FindBlock(uint64_t address, uint32_t* bucket) const;

  Rows rows_;
  DeltaState run_state_;
  size_t run_bytes_;  // of the run of records that is open
  uint32_t events_, allocs_;
  uint64_t time_;  // in units
  uint32_t thread_;
  uint32_t nodes_;  // of the stretch
  ChunkStats stats_;

  SymbolHistory history_;
  ColumnBlocks blocks_;
  NodePlaces places_;
  uint32_t entry_at_[kBuckets];
  uint32_t block_at_[kBuckets];
  uint32_t place_at_[2 * kMaxNodePlaces];

  size_t used_[kColumnCount];
  size_t ends_[kColumnCount + 1];
  // With room for the number that begins a run and for a last event.
  uint8_t columns_[kColumnCount][kColumnBytes + 256];
  uint8_t run_[kMaxRecordsBytes + 256];
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_COLUMN_WRITER_H_
