// Latencies in bounded memory, however many.
#ifndef OLLAMATRACE_ANALYZER_SOAK_LATENCY_HISTOGRAM_H_
#define OLLAMATRACE_ANALYZER_SOAK_LATENCY_HISTOGRAM_H_

#include <array>
#include <cstddef>
#include <cstdint>

namespace ollamatrace {

// Buckets whose width grows with the value: a percentile is exact to 1.6 %. From 1 us to over
// three hours. Thread-compatible.
class LatencyHistogram {
 public:
  void Add(double seconds);
  void Add(const LatencyHistogram& other);

  uint64_t count() const { return count_; }
  // Seconds; `share` from 0 to 1. The upper end of the bucket, never more than the greatest value.
  // 0 for none.
  double Percentile(double share) const;
  double greatest() const { return greatest_; }

 private:
  static constexpr size_t kSubBits = 6;  // 64 buckets to a doubling
  static constexpr size_t kBuckets = (34 - kSubBits + 1) << kSubBits;

  static size_t BucketOf(uint64_t micros);
  static uint64_t UpperEnd(size_t bucket);

  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0;
  double greatest_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_LATENCY_HISTOGRAM_H_
