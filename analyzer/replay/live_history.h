// How the live bytes of many stacks went over time, coarsely.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_LIVE_HISTORY_H_
#define OLLAMATRACE_ANALYZER_REPLAY_LIVE_HISTORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ollamatrace {

// Time is cut into at most kSlots slots of equal width. The width doubles, and pairs of slots
// become one, whenever a time lies beyond the last slot: the length of the process need not be
// known. Thread-compatible. Memory: 128 bytes a row.
class LiveHistory {
 public:
  static constexpr size_t kSlots = 16;

  // Earlier times count as `origin_ns`. Call before the first Add.
  void SetOrigin(uint64_t origin_ns) { origin_ns_ = origin_ns; }

  // `bytes` became live (negative: were freed) at `time_ns`. Rows are dense, from 0.
  void Add(size_t row, uint64_t time_ns, int64_t bytes);

  // The end of the slot in which `time_ns` lies.
  uint64_t SlotEnd(uint64_t time_ns) const;

  // What was added to `row` after the slot in which `time_ns` lies. 0 for a row that nothing was
  // added to.
  int64_t After(size_t row, uint64_t time_ns) const;

 private:
  uint64_t Slot(uint64_t time_ns) const {
    return time_ns <= origin_ns_ ? 0 : (time_ns - origin_ns_) >> shift_;
  }
  void Double();

  uint64_t origin_ns_ = 0;
  unsigned shift_ = 16;  // a slot is 2^shift ns wide
  std::vector<std::array<int64_t, kSlots>> rows_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_LIVE_HISTORY_H_
