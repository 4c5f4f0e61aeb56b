#ifndef OLLAMATRACE_PRELOAD_DRAIN_DROPPED_PAIRS_H_
#define OLLAMATRACE_PRELOAD_DRAIN_DROPPED_PAIRS_H_

// Sums over the blocks that came and went in dropped segments, by stack and domain.

#include <cstdint>

#include "formats/sample_weight.h"
#include "formats/trace_format.h"

namespace ollamatrace {

class DroppedPairs {
 public:
  static constexpr uint32_t kMaxSums = 128u << 10;  // 10 MiB
  static constexpr uint32_t kBuckets = 256u << 10;  // 1 MiB
  struct Sum {
    uint32_t stack;
    uint32_t domain;
    uint64_t pairs, bytes, lifetime_ns, first_ns, last_ns;
    uint64_t weight_blocks, weight_bytes, weight_blocks_variance, weight_bytes_variance;
  };
  static_assert(sizeof(Sum) == 80);

  // Zeroed memory: kMaxSums and kBuckets, touched as sums come.
  void Init(Sum* sums, uint32_t* buckets) {
    sums_ = sums;
    buckets_ = buckets;
    count_ = 0;
  }
  uint32_t count() const { return count_; }

  void Add(const DroppedRecord& record) {
    Sum* const sum =
        SumOf(static_cast<uint32_t>(record.stack), static_cast<uint32_t>(record.domain));
    if (sum->pairs == 0 || record.first_ns < sum->first_ns) sum->first_ns = record.first_ns;
    if (record.last_ns > sum->last_ns) sum->last_ns = record.last_ns;
    sum->pairs += record.pairs;
    sum->bytes += record.bytes;
    sum->lifetime_ns += record.lifetime_ns;
    AddUpTo(&sum->weight_blocks, record.weight_blocks);
    AddUpTo(&sum->weight_bytes, record.weight_bytes);
    AddUpTo(&sum->weight_blocks_variance, record.weight_blocks_variance);
    AddUpTo(&sum->weight_bytes_variance, record.weight_bytes_variance);
  }
  // `weight`: of a block that was drawn, else nullptr.
  void AddPair(uint32_t stack, uint32_t domain, uint64_t bytes, uint64_t begin_ns, uint64_t end_ns,
               const SampleWeight* weight) {
    DroppedRecord pair;
    pair.stack = StackId{stack};
    pair.domain = static_cast<Domain>(domain);
    pair.pairs = 1;
    pair.bytes = bytes;
    pair.lifetime_ns = end_ns > begin_ns ? end_ns - begin_ns : 0;
    pair.first_ns = pair.last_ns = begin_ns;
    if (weight != nullptr) {
      pair.weight_blocks = weight->blocks;
      pair.weight_bytes = weight->bytes;
      pair.weight_blocks_variance = weight->blocks_variance;
      pair.weight_bytes_variance = weight->bytes_variance;
    }
    Add(pair);
  }
  DroppedRecord record(uint32_t index) const {
    const Sum& sum = sums_[index];
    DroppedRecord record;
    record.stack = StackId{sum.stack};
    record.domain = static_cast<Domain>(sum.domain);
    record.pairs = sum.pairs;
    record.bytes = sum.bytes;
    record.lifetime_ns = sum.lifetime_ns;
    record.first_ns = sum.first_ns;
    record.last_ns = sum.last_ns;
    record.weight_blocks = sum.weight_blocks;
    record.weight_bytes = sum.weight_bytes;
    record.weight_blocks_variance = sum.weight_blocks_variance;
    record.weight_bytes_variance = sum.weight_bytes_variance;
    return record;
  }

 private:
  Sum* SumOf(uint32_t stack, uint32_t domain) {
    uint32_t bucket = Bucket(stack, domain);
    while (buckets_[bucket] != 0) {
      Sum* const sum = &sums_[buckets_[bucket] - 1];
      if (sum->stack == stack && sum->domain == domain) return sum;
      bucket = (bucket + 1) % kBuckets;
    }
    // The last ones are for what has no room: pairs of no stack, a sum for each domain.
    if (stack != 0 && count_ >= kMaxSums - 256) return SumOf(0, domain);
    sums_[count_] = {};
    sums_[count_].stack = stack;
    sums_[count_].domain = domain;
    buckets_[bucket] = ++count_;
    return &sums_[count_ - 1];
  }
  static void AddUpTo(uint64_t* sum, uint64_t value) {
    if (__builtin_add_overflow(*sum, value, sum)) *sum = ~uint64_t{0};
  }
  static uint32_t Bucket(uint32_t stack, uint32_t domain) {
    // Neighbours stay neighbours: few pages serve few stacks.
    return (stack + domain * 4099) % kBuckets;
  }

  Sum* sums_;
  uint32_t* buckets_;
  uint32_t count_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_DROPPED_PAIRS_H_
