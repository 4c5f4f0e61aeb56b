#ifndef OLLAMATRACE_PRELOAD_CAPTURE_POISSON_SAMPLER_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_POISSON_SAMPLER_H_

// Which allocations of a thread mode sample draws.
//
// The bytes that a thread allocates form a line, one block after the other. Points lie on it as a
// Poisson process has them, one in `mean` bytes; a block is drawn when a point lies in it. The
// distance to the next point is exponentially distributed with that mean, and so is, whatever
// happened before, what is left of it: the chance that a block of X bytes is drawn is
// 1 - exp(-X / mean), and no two draws depend on each other. So it suffices to count down the
// distance to the next point, and to draw a new one, from the end of the block, when it lies in the
// block. Distances are whole bytes, rounded up: "a point within the next X bytes" stays exact.
//
// Blocks of 0 bytes count as 1.

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

// log2 of a positive, normal number, to 1e-14 (absolute). libm is not to be had here.
inline double FastLog2(double value) {
  uint64_t bits;
  static_assert(sizeof bits == sizeof value);
  __builtin_memcpy(&bits, &value, sizeof bits);
  // value = 2^exponent * mantissa, mantissa in [sqrt(1/2), sqrt(2)).
  constexpr uint64_t kSqrtHalf = UINT64_C(0x3FE6A09E667F3BCD);
  const int64_t exponent = static_cast<int64_t>(bits - kSqrtHalf) >> 52;
  bits -= static_cast<uint64_t>(exponent) << 52;
  double mantissa;
  __builtin_memcpy(&mantissa, &bits, sizeof mantissa);
  // ln m = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
  const double s = (mantissa - 1) / (mantissa + 1);
  const double s2 = s * s;
  double sum = 0;
  for (int term = 17; term >= 1; term -= 2) sum = sum * s2 + 1.0 / term;
  constexpr double kTwoOverLn2 = 2.885390081777926814719849362004;
  return static_cast<double>(exponent) + kTwoOverLn2 * s * sum;
}

// Plain data; all zeros is a sampler that draws nothing and passes nothing: it is to be seeded.
// Thread-compatible. A signal handler may use it at any point: at worst what the handler allocated
// is not counted off.
class PoissonSampler {
 public:
  // The hot path. True: a block of `size` bytes is not drawn, and that is all there is to do.
  // False: ask Draw. That 0 counts as 1 is Draw's affair: one comparison less for all others.
  bool Passes(size_t size) {
    const uint64_t passing = passing_;
    if (size - 1 >= passing) return false;
    passing_ = passing - size;
    return true;
  }

  bool seeded() const { return random_ != 0; }
  // Whether Passes may say yes.
  bool running() const { return passing_ != 0; }
  void Seed(uint64_t seed, uint64_t mean, uint64_t visit) {
    random_ = seed | 1;
    Split(NextDistance(mean), visit);
  }

  // Whether the block is drawn, when Passes said no. `visit`: so many bytes later at the latest
  // Passes says no again, drawn or not. Seeded.
  bool Draw(size_t size, uint64_t mean, uint64_t visit) {
    const uint64_t weight = size + (size == 0);
    const uint64_t distance = passing_ + 1 + rest_;
    const bool drawn = weight >= distance;
    Split(drawn ? NextDistance(mean) : distance - weight, visit);
    return drawn;
  }

  // Passes says no until Resume is given what Pause returned.
  uint64_t Pause() {
    const uint64_t passing = passing_;
    passing_ = 0;
    return passing;
  }
  void Resume(uint64_t passing) {
    if (seeded()) passing_ = passing;
  }

 private:
  // SplitMix64 (Steele, Lea, Flood 2014).
  uint64_t Random() {
    uint64_t z = random_ += UINT64_C(0x9E3779B97F4A7C15);
    if (random_ == 0) random_ = 1;  // 0 is "not seeded"
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
  }

  uint64_t NextDistance(uint64_t mean) {
    constexpr double kLn2 = 0.693147180559945309417232121458;
    // Uniform in (0, 1], in steps of 2^-53: distances are 36.7 means at most.
    const double uniform = static_cast<double>((Random() >> 11) + 1) * 0x1p-53;
    const double distance = -FastLog2(uniform) * kLn2 * static_cast<double>(mean);
    const uint64_t whole = static_cast<uint64_t>(distance);
    const uint64_t rounded_up = whole + (static_cast<double>(whole) < distance);
    return rounded_up == 0 ? 1 : rounded_up;
  }

  void Split(uint64_t distance, uint64_t visit) {
    const uint64_t next = distance < visit ? distance : visit;
    passing_ = next - 1;
    rest_ = distance - next;
  }

  // The bytes before the one with the next point or visit; 0 also when not seeded, or paused.
  uint64_t passing_;
  uint64_t rest_;    // from that byte to the next point
  uint64_t random_;  // 0: not seeded
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_POISSON_SAMPLER_H_
