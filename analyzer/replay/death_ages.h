// How old the blocks of many groups were when they were freed.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_DEATH_AGES_H_
#define OLLAMATRACE_ANALYZER_REPLAY_DEATH_AGES_H_

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "analyzer/replay/chunked_vector.h"

namespace ollamatrace {

// Only blocks whose allocation and free are both in the trace: what the library folded away died
// younger than that. Thread-compatible. Memory: 4 bytes a row, 20 more for one with frees in up to
// four buckets, 128 more for one with frees in more.
class DeathAges {
 public:
  // Bucket b counts ages below Limit(b) that no earlier bucket counts; the last one all others.
  static constexpr size_t kBuckets = 32;
  using Counts = std::array<uint32_t, kBuckets>;
  static uint64_t LimitNs(size_t bucket) { return uint64_t{1} << (bucket + kUnitBits); }

  // Rows are dense, from 0.
  void Add(size_t row, uint64_t age_ns) {
    if (row >= index_.size()) index_.resize(row + 1);
    const size_t bucket =
        std::min(static_cast<size_t>(std::bit_width(age_ns >> kUnitBits)), kBuckets - 1);
    uint32_t& index = index_[row];
    if (index == 0) {
      index = static_cast<uint32_t>(few_.size() * 2 + 1);
      few_.push_back(Few());
    }
    uint32_t& count = index % 2 == 0 ? counts_[index / 2][bucket] : CountOfFew(index, bucket);
    count += count != ~uint32_t{0};
  }

  // All 0 for a row without any.
  Counts Of(size_t row) const {
    Counts counts{};
    const uint32_t index = row < index_.size() ? index_[row] : 0;
    if (index == 0) return counts;
    if (index % 2 == 0) return counts_[index / 2];
    const Few& few = few_[index / 2];
    for (size_t i = 0; i < few.counts.size(); ++i) counts[few.buckets[i]] += few.counts[i];
    return counts;
  }

 private:
  static constexpr unsigned kUnitBits = 20;  // about a millisecond

  struct Few {
    std::array<uint32_t, 4> counts{};  // 0: of no bucket yet
    std::array<uint8_t, 4> buckets{};
  };

  // Moves the counts to a place of their own when there are too many. `index` is the row's.
  uint32_t& CountOfFew(uint32_t& index, size_t bucket) {
    Few& few = few_[index / 2];
    for (size_t i = 0; i < few.counts.size(); ++i) {
      if (few.counts[i] == 0) few.buckets[i] = static_cast<uint8_t>(bucket);
      if (few.buckets[i] == bucket) return few.counts[i];
    }
    Counts all{};
    for (size_t i = 0; i < few.counts.size(); ++i) all[few.buckets[i]] = few.counts[i];
    few = Few();
    index = static_cast<uint32_t>(counts_.size() * 2);
    return counts_.push_back(all)[bucket];
  }

  std::vector<uint32_t> index_;  // by row; 0: none; odd: 2 * index into few_ + 1; else into counts_
  ChunkedVector<Few> few_;
  ChunkedVector<Counts, 6> counts_ = OneOfNone();  // that of index 0 means none
  static ChunkedVector<Counts, 6> OneOfNone() {
    ChunkedVector<Counts, 6> none;
    none.push_back(Counts());
    return none;
  }
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_DEATH_AGES_H_
