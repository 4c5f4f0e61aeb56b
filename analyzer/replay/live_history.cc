#include "analyzer/replay/live_history.h"

namespace ollamatrace {

void LiveHistory::Add(size_t row, uint64_t time_ns, int64_t bytes) {
  while (Slot(time_ns) >= kSlots) Double();
  if (row >= rows_.size()) rows_.resize(row + 1);
  // Wraps instead of overflowing: sizes come from the trace.
  int64_t& slot = rows_[row][Slot(time_ns)];
  slot = static_cast<int64_t>(static_cast<uint64_t>(slot) + static_cast<uint64_t>(bytes));
}

void LiveHistory::Double() {
  ++shift_;
  for (std::array<int64_t, kSlots>& row : rows_) {
    for (size_t i = 0; i < kSlots / 2; ++i) {
      row[i] = static_cast<int64_t>(static_cast<uint64_t>(row[2 * i]) +
                                    static_cast<uint64_t>(row[2 * i + 1]));
    }
    for (size_t i = kSlots / 2; i < kSlots; ++i) row[i] = 0;
  }
}

uint64_t LiveHistory::SlotEnd(uint64_t time_ns) const {
  const uint64_t slots = Slot(time_ns) + 1;
  const uint64_t room = ~origin_ns_;
  return slots > room >> shift_ ? ~uint64_t{0} : origin_ns_ + (slots << shift_);
}

int64_t LiveHistory::After(size_t row, uint64_t time_ns) const {
  if (row >= rows_.size()) return 0;
  uint64_t sum = 0;
  for (uint64_t i = Slot(time_ns) + 1; i < kSlots; ++i) {
    sum += static_cast<uint64_t>(rows_[row][i]);
  }
  return static_cast<int64_t>(sum);
}

}  // namespace ollamatrace
