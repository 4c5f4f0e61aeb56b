// How the live bytes of many groups of blocks went over time and over requests.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_GROUP_SERIES_H_
#define OLLAMATRACE_ANALYZER_REPLAY_GROUP_SERIES_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/types/span.h"

namespace ollamatrace {

// Two axes, each cut into a bounded number of slots:
//   time      slots of equal width. The width doubles, and pairs of slots become one, whenever a
//             time lies beyond the last slot: the length of the session need not be known.
//   requests  slots of equally many requests. Their number doubles likewise.
// And generations, kGenerations parts of the time axis: what was allocated in each, and what of it
// is live at the end. They tell whether old blocks stay.
//
// Times may come in any order. Thread-compatible. Cost: an addition, while an event falls into the
// same slots as the group's last one. Memory: 24 bytes a row, and about 32 for each slot but the
// last in which it changed. When many rows changed in more than five slots (kMaxBusySlots), all
// get half as many slots, down to an eighth. Survivors: 4 bytes a row, 256 for each with more than
// one live block.
class GroupSeries {
 public:
  static constexpr size_t kTimeSlots = 256;
  static constexpr size_t kRequestSlots = 128;
  static constexpr size_t kGenerations = 32;
  // Rows that changed in more than five slots, times the slots and generations that each may use.
  static constexpr size_t kMaxBusySlots = size_t{4} << 20;

  // Earlier times count as `origin_ns`. Call before the first Add.
  void SetOrigin(uint64_t origin_ns);
  // When requests were answered, ascending; has to outlive the last Add. Without it, or when it is
  // empty, there is no axis of requests. Call before the first Add.
  void SetRequests(absl::Span<const uint64_t> times);

  // `bytes` became live (negative: were freed) at `time_ns`. Rows are dense, from 0.
  void Add(size_t row, uint64_t time_ns, int64_t bytes) {
    if (time_ns < cell_begin_ || time_ns >= cell_end_) FindCell(time_ns);
    if (row >= rows_.size()) rows_.resize(row + 1);
    Row& last = rows_[row];
    if (last.cell != cell_) {
      Flush(last);
      if (cell_ == kNoCell) FindCell(time_ns);
      last.cell = cell_;
    }
    // Wraps instead of overflowing: sizes come from the trace.
    last.delta += static_cast<uint64_t>(bytes);
    if (bytes > 0) last.born += static_cast<uint64_t>(bytes);
  }

  // An Add to this row follows soon.
  void Prefetch(size_t row) const {
    if (row < rows_.size()) __builtin_prefetch(&rows_[row], 1);
  }

  // The axes go on to `time_ns`, whether anything happened there or not.
  void ReachTo(uint64_t time_ns) { FindCell(time_ns); }
  // A block or mapping of `row` that is live at the end. Call after the last Add, and ReachTo.
  void AddSurvivor(size_t row, uint64_t time_ns, uint64_t bytes);

  // ---- The result ----
  // Slots are numbered from 0; those from *_slots() on were never reached.
  size_t time_slots() const { return time_used_; }
  uint64_t TimeSlotEnd(size_t slot) const { return Edge(slot + 1); }
  size_t SlotOfTime(uint64_t time_ns) const;  // time_slots() - 1 for what lies behind
  size_t request_slots() const { return request_used_; }
  // How many requests, of those given, had been answered at the slot's end.
  uint64_t RequestsAt(size_t slot) const;
  uint64_t RequestSlotEnd(size_t slot) const { return request_edges_[slot]; }
  size_t generations() const;
  size_t GenerationOfTime(uint64_t time_ns) const;
  uint64_t GenerationBegin(size_t generation) const { return Edge(generation << generation_bits_); }

  // What one row added, slot by slot; vectors are grown as needed and added to. What happened after
  // the last request is in no slot of the request axis.
  struct Sums {
    std::vector<int64_t> time;      // live bytes, by how much they changed
    std::vector<int64_t> requests;  // the same
    std::vector<uint64_t> born;     // bytes allocated in each generation
    std::vector<uint64_t> live;     // of these, live at the end
  };
  void AddTo(size_t row, Sums& sums) const;

 private:
  // Time slot << 8 | request slot; the latter is kRequestSlots after the last request and where
  // there is none.
  using Cell = uint32_t;
  static constexpr Cell kNoCell = ~Cell{0};

  struct Row {
    uint64_t delta = 0;  // of `cell`, not stored yet
    uint64_t born = 0;
    Cell cell = kNoCell;
    uint32_t list : 31 = 0;  // index into lists_; 0: none
    uint32_t busy : 1 = 0;   // it needed more than kFewCells cells once
  };
  // What happened in a cell.
  struct Change {
    uint64_t delta = 0;
    uint64_t born = 0;
    Cell cell = kNoCell;
  };
  static constexpr size_t kFewCells = 4;

  size_t SlotsOfARow() const { return time_limit_ + request_limit_ + kGenerations; }
  uint64_t Edge(uint64_t slot) const;
  Cell CellOf(size_t time_slot, size_t request_slot) const {
    return static_cast<Cell>(time_slot << 8 | request_slot);
  }

  void FindCell(uint64_t time_ns);
  void SetRequestEdges();
  void Flush(Row& row);
  void CountBusyRow();
  // Pairs of slots become one.
  void DoubleTime();
  void DoubleRequests();
  template <typename Merge>
  void Remap(const Merge& merge);
  void HalveLimits();

  uint64_t origin_ns_ = 0;
  unsigned shift_ = 16;  // a time slot is 2^shift ns wide
  absl::Span<const uint64_t> requests_;
  unsigned request_shift_ = 0;           // a request slot holds 2^shift requests
  std::vector<uint64_t> request_edges_;  // the time of the last request of each slot
  size_t time_limit_ = kTimeSlots;
  size_t request_limit_ = kRequestSlots;
  unsigned generation_bits_ = 3;  // a generation is 2^bits time slots, so that there are 32
  size_t time_used_ = 0;
  size_t request_used_ = 0;

  // The cell of the times in [cell_begin_, cell_end_).
  Cell cell_ = kNoCell;
  uint64_t cell_begin_ = 1;
  uint64_t cell_end_ = 0;

  std::vector<Row> rows_;
  std::vector<std::vector<Change>> lists_{1};  // each by cell; index 0 means none
  size_t busy_rows_ = 0;
  std::vector<uint32_t> survivors_of_;  // by row: index into survivors_, 0: none
  std::vector<std::array<uint64_t, kGenerations>> survivors_{1};
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_GROUP_SERIES_H_
