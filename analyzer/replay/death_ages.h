// How old the blocks of many groups were when they were freed.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_DEATH_AGES_H_
#define OLLAMATRACE_ANALYZER_REPLAY_DEATH_AGES_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace ollamatrace {

// Only blocks whose allocation and free are both in the trace: what the library folded away died
// younger than that. Thread-compatible. Memory: 4 bytes a row, 128 more for one with a free.
class DeathAges {
 public:
  // Bucket b counts ages below Limit(b) that no earlier bucket counts; the last one all others.
  static constexpr size_t kBuckets = 32;
  using Counts = std::array<uint32_t, kBuckets>;
  static uint64_t LimitNs(size_t bucket) { return uint64_t{1} << (bucket + kUnitBits); }

  // Rows are dense, from 0.
  void Add(size_t row, uint64_t age_ns) {
    if (row >= index_.size()) index_.resize(row + 1);
    uint32_t& index = index_[row];
    if (index == 0) {
      index = static_cast<uint32_t>(counts_.size());
      counts_.emplace_back();
    }
    const size_t bucket = static_cast<size_t>(std::bit_width(age_ns >> kUnitBits));
    uint32_t& count = counts_[index][std::min(bucket, kBuckets - 1)];
    count += count != ~uint32_t{0};
  }

  // All 0 for a row without any.
  const Counts& Of(size_t row) const { return counts_[row < index_.size() ? index_[row] : 0]; }

 private:
  static constexpr unsigned kUnitBits = 20;  // about a millisecond

  std::vector<uint32_t> index_;  // by row, into counts_; 0: none
  std::vector<Counts> counts_{1};
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_DEATH_AGES_H_
