#ifndef OLLAMATRACE_PRELOAD_DRAIN_PASS_RANGE_H_
#define OLLAMATRACE_PRELOAD_DRAIN_PASS_RANGE_H_

// Work on more keys than there is room for, in several passes over the same events. A pass looks at
// the keys in [begin, end) and begins with all that are left; when its table is full, it leaves
// the upper part of them for later passes, which start from the first event again. Until then it
// had counted their events, too: later passes count those from counted_until() on.

#include <cstdint>

namespace ollamatrace {

class PassRange {
 public:
  void Start(uint64_t all) {
    begin_ = 0;
    end_ = all;
    counted_until_ = 0;
    left_count_ = 0;
  }

  uint64_t begin() const { return begin_; }
  uint64_t end() const { return end_; }
  uint64_t counted_until() const { return counted_until_; }
  bool Contains(uint64_t key) const { return key >= begin_ && key < end_; }

  // At event number `event`, keys from `middle` on are left for later passes. False: that is not
  // possible.
  bool Narrow(uint64_t middle, uint64_t event) {
    if (middle <= begin_ || middle >= end_ || left_count_ == kMaxLeft) return false;
    left_[left_count_++] = {end_, event > counted_until_ ? event : counted_until_};
    end_ = middle;
    return true;
  }
  // The next pass. False: nothing is left; the range is empty.
  bool Next() {
    begin_ = end_;
    if (left_count_ == 0) return false;
    --left_count_;
    end_ = left_[left_count_].end;
    counted_until_ = left_[left_count_].counted_until;
    return true;
  }

 private:
  static constexpr uint32_t kMaxLeft = 64;
  struct Left {
    uint64_t end;
    uint64_t counted_until;
  };
  uint64_t begin_, end_;
  uint64_t counted_until_;
  uint32_t left_count_;
  Left left_[kMaxLeft];
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_PASS_RANGE_H_
