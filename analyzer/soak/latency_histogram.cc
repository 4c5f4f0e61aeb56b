#include "analyzer/soak/latency_histogram.h"

#include <algorithm>
#include <bit>
#include <cmath>

namespace ollamatrace {

size_t LatencyHistogram::BucketOf(uint64_t micros) {
  if (micros < (uint64_t{1} << kSubBits)) return static_cast<size_t>(micros);
  const size_t exponent = static_cast<size_t>(std::bit_width(micros)) - 1 - kSubBits;
  return ((exponent + 1) << kSubBits) +
         static_cast<size_t>((micros >> exponent) & ((uint64_t{1} << kSubBits) - 1));
}

uint64_t LatencyHistogram::UpperEnd(size_t bucket) {
  const size_t group = bucket >> kSubBits;
  const uint64_t rest = bucket & ((size_t{1} << kSubBits) - 1);
  if (group == 0) return rest;
  return (((uint64_t{1} << kSubBits) + rest + 1) << (group - 1)) - 1;
}

void LatencyHistogram::Add(double seconds) {
  const double micros = std::clamp(seconds * 1e6, 0.0, 0x1p34 - 1);
  ++counts_[BucketOf(static_cast<uint64_t>(std::llround(micros)))];
  ++count_;
  greatest_ = std::max(greatest_, seconds);
}

void LatencyHistogram::Add(const LatencyHistogram& other) {
  for (size_t i = 0; i < kBuckets; ++i) counts_[i] += other.counts_[i];
  count_ += other.count_;
  greatest_ = std::max(greatest_, other.greatest_);
}

double LatencyHistogram::Percentile(double share) const {
  if (count_ == 0) return 0;
  const uint64_t wanted = std::max<uint64_t>(
      1,
      static_cast<uint64_t>(std::ceil(std::clamp(share, 0.0, 1.0) * static_cast<double>(count_))));
  uint64_t seen = 0;
  for (size_t i = 0; i < kBuckets; ++i) {
    seen += counts_[i];
    if (seen >= wanted) return std::min(greatest_, static_cast<double>(UpperEnd(i)) / 1e6);
  }
  return greatest_;
}

}  // namespace ollamatrace
