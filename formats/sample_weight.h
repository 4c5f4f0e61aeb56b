// Mode sample: what a block that was drawn stands for.
//
// A block of X bytes is recorded with probability P = 1 - exp(-X / Y), Y being sample_bytes of the
// trace's header: it is drawn when a point of a Poisson process of one point in Y bytes falls into
// it. (X = 0 counts as 1: every block can be drawn.) So 1/P blocks and X/P bytes are unbiased
// estimates (Horvitz and Thompson): the expectation of "1/P if drawn, else 0" is 1. As blocks are
// drawn independently of each other, a sum over the blocks that were drawn estimates the variance
// of a sum of such estimates, without bias:
//
//   bytes: sum of X^2 (1 - P) / P^2 = E (E - X), with E = X / P;     blocks: sum of (1 - P) / P^2
//
// Only blocks of domain heap are drawn. The library and the analyzer share these functions, so that
// what one adds the other takes off again. No allocation, no library: not even libm.
#ifndef OLLAMATRACE_FORMATS_SAMPLE_WEIGHT_H_
#define OLLAMATRACE_FORMATS_SAMPLE_WEIGHT_H_

#include <cstddef>
#include <cstdint>

#include "formats/byte_count.h"

namespace ollamatrace {

// The greatest sample_bytes that makes sense, 1 TiB; 0 means that nothing is drawn.
inline constexpr uint64_t kMaxSampleBytes = uint64_t{1} << 40;

// Whether [text, text + size) is the mode's name as a setting: "sample:" and a number of bytes
// (byte_count.h) from 1 to kMaxSampleBytes.
inline bool ParseSampleMode(const char* text, size_t size, uint64_t* sample_bytes) {
  constexpr char kName[] = "sample:";
  constexpr size_t kNameSize = sizeof kName - 1;
  if (size <= kNameSize) return false;
  for (size_t i = 0; i < kNameSize; ++i) {
    if (text[i] != kName[i]) return false;
  }
  uint64_t number = 0;
  if (!ParseByteCount(text + kNameSize, size - kNameSize, kMaxSampleBytes, &number) ||
      number == 0) {
    return false;
  }
  *sample_bytes = number;
  return true;
}

// 1 - exp(-x) for x >= 0, to 1e-14 of its value.
inline double ChanceOf(double x) {
  if (x > 64) return 1;
  int doublings = 0;
  while (x > 1.0 / 64) {
    x /= 2;
    ++doublings;
  }
  // Taylor; the next term is 1e-15 of the sum.
  double chance = x * (1 - x / 2 * (1 - x / 3 * (1 - x / 4 * (1 - x / 5 * (1 - x / 6)))));
  // 1 - exp(-2x) = (1 - exp(-x)) (1 + exp(-x)): no cancellation.
  while (doublings-- > 0) chance *= 2 - chance;
  return chance;
}

// The chance that a block of `size` bytes is drawn.
inline double SampleChance(uint64_t size, uint64_t sample_bytes) {
  return ChanceOf(static_cast<double>(size == 0 ? 1 : size) / static_cast<double>(sample_bytes));
}

// In integers, for sums that do not depend on their order.
struct SampleWeight {
  static constexpr uint64_t kOneBlock = 1u << 16;
  static constexpr uint64_t kOneBlockVariance = 1u << 8;
  static constexpr uint64_t kOneBytesVariance = 1u << 24;

  uint64_t blocks = kOneBlock;  // 1/P in units of 2^-16
  uint64_t bytes = 0;           // X/P
  // Their variances: (1-P)/P^2 in units of 2^-8; E(E-X) in units of sample_bytes^2 2^-24.
  uint64_t blocks_variance = 0;
  uint64_t bytes_variance = 0;
};

// Of a block that was drawn; `sample_bytes` 0: of one that is recorded whatever its size.
inline SampleWeight WeightOf(uint64_t size, uint64_t sample_bytes) {
  SampleWeight weight;
  weight.bytes = size;
  if (sample_bytes == 0) return weight;
  const double chance = SampleChance(size, sample_bytes);
  const double blocks = 1 / chance;
  const double bytes = static_cast<double>(size) / chance;
  const double mean = static_cast<double>(sample_bytes);
  const auto rounded = [](double value) {
    return value < 0x1p63 ? static_cast<uint64_t>(value + 0.5) : uint64_t{1} << 63;
  };
  weight.blocks = rounded(blocks * SampleWeight::kOneBlock);
  // Beyond 2^53 a double does not hold every size.
  if (chance < 1) weight.bytes = rounded(bytes);
  weight.blocks_variance =
      rounded(blocks * blocks * (1 - chance) * SampleWeight::kOneBlockVariance);
  weight.bytes_variance =
      rounded(bytes / mean * (bytes / mean) * (1 - chance) * SampleWeight::kOneBytesVariance);
  return weight;
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_SAMPLE_WEIGHT_H_
