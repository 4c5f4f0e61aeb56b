#include "preload/capture/poisson_sampler.h"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kNoVisits = ~uint64_t{0};

PoissonSampler Seeded(uint64_t seed, uint64_t mean, uint64_t visit = kNoVisits) {
  PoissonSampler sampler = {};
  sampler.Seed(seed, mean, visit);
  return sampler;
}

// As the hooks do it.
bool Draw(PoissonSampler* sampler, size_t size, uint64_t mean, uint64_t visit = kNoVisits) {
  return !sampler->Passes(size) && sampler->Draw(size, mean, visit);
}

TEST(FastLog2, EqualsTheRealOne) {
  std::mt19937_64 random(1);
  double worst = 0;
  const auto look = [&worst](double value) {
    worst = std::max(worst, std::abs(FastLog2(value) - std::log2(value)));
  };
  for (int i = 0; i < 1'000'000; ++i) {
    look(std::ldexp(static_cast<double>(random() >> 11) + 1, -53));            // (0, 1]
    look(std::ldexp(1 + std::ldexp(static_cast<double>(random() >> 12), -52),  // all exponents
                    static_cast<int>(random() % 2000) - 1000));
  }
  for (double value :
       {1.0, 0.5, 2.0, 0x1p-53, std::sqrt(2.0), std::sqrt(0.5), std::nextafter(std::sqrt(0.5), 0.0),
        std::nextafter(1.0, 0.0), std::nextafter(1.0, 2.0)}) {
    look(value);
  }
  EXPECT_LT(worst, 3e-13);  // an ulp of log2's at 2^10 is 2.3e-13
  EXPECT_EQ(FastLog2(1), 0);
}

TEST(PoissonSampler, ASamplerOfZerosPassesNothing) {
  PoissonSampler sampler = {};
  EXPECT_FALSE(sampler.seeded());
  EXPECT_FALSE(sampler.running());
  for (size_t size : {size_t{0}, size_t{1}, size_t{100}, SIZE_MAX})
    EXPECT_FALSE(sampler.Passes(size));
}

// The chance of each size is 1 - exp(-size / mean), whatever other sizes come in between.
TEST(PoissonSampler, DrawsEachSizeAsOftenAsItShould) {
  constexpr uint64_t kMean = 4096;
  const std::vector<size_t> sizes = {0, 1, 16, 100, 1000, 4096, 10'000, 100'000};
  std::vector<uint64_t> tries(sizes.size()), drawn(sizes.size());
  PoissonSampler sampler = Seeded(7, kMean);
  std::mt19937_64 random(2);
  for (int i = 0; i < 8'000'000; ++i) {
    const size_t which = random() % sizes.size();
    ++tries[which];
    drawn[which] += Draw(&sampler, sizes[which], kMean);
  }
  for (size_t i = 0; i < sizes.size(); ++i) {
    const double weight = static_cast<double>(std::max<size_t>(sizes[i], 1));
    const double chance = -std::expm1(-weight / static_cast<double>(kMean));
    const double expected = chance * static_cast<double>(tries[i]);
    const double deviation = std::sqrt(expected * (1 - chance));
    EXPECT_NEAR(static_cast<double>(drawn[i]), expected, 5 * deviation + 1e-9) << sizes[i];
  }
}

// Distances between draws, byte by byte, against the exponential distribution: chi-square with 49
// degrees of freedom, whose 1 - 1e-6 quantile is 109.
TEST(PoissonSampler, DistancesAreExponential) {
  constexpr uint64_t kMean = 1000;
  constexpr int kBins = 50;
  constexpr int kDraws = 100'000;
  std::vector<int> bins(kBins);
  PoissonSampler sampler = Seeded(11, kMean);
  double sum = 0, squares = 0;
  // The chance of a distance up to n bytes is 1 - exp(-n / mean): bins that end at whole bytes.
  std::vector<uint64_t> ends;
  for (int bin = 1; bin < kBins; ++bin) {
    ends.push_back(static_cast<uint64_t>(
        std::llround(-std::log1p(-static_cast<double>(bin) / kBins) * static_cast<double>(kMean))));
  }
  for (int draw = 0; draw < kDraws; ++draw) {
    uint64_t distance = 1;
    while (!Draw(&sampler, 1, kMean)) ++distance;
    const double value = static_cast<double>(distance);
    sum += value;
    squares += value * value;
    size_t bin = 0;
    while (bin < ends.size() && distance > ends[bin]) ++bin;
    ++bins[bin];
  }
  double chi_square = 0, before = 0;
  for (int bin = 0; bin < kBins; ++bin) {
    const double until = bin + 1 == kBins
                             ? 1
                             : -std::expm1(-static_cast<double>(ends[static_cast<size_t>(bin)]) /
                                           static_cast<double>(kMean));
    const double expected = (until - before) * kDraws;
    const double difference = bins[static_cast<size_t>(bin)] - expected;
    chi_square += difference * difference / expected;
    before = until;
  }
  EXPECT_LT(chi_square, 109);
  // Rounded up to whole bytes: half a byte more in the mean.
  const double mean = sum / kDraws;
  EXPECT_NEAR(mean, kMean + 0.5, 5 * kMean / std::sqrt(kDraws));
  const double deviation = std::sqrt(squares / kDraws - mean * mean);
  EXPECT_NEAR(deviation, kMean, 5 * kMean * std::sqrt(2.0 / kDraws));
}

// What is drawn does not depend on how often the sampler is asked.
TEST(PoissonSampler, VisitsChangeNothing) {
  constexpr uint64_t kMean = 50'000;
  PoissonSampler often = Seeded(3, kMean, 512);
  PoissonSampler never = Seeded(3, kMean);
  std::mt19937_64 random(4);
  uint64_t drawn = 0, asked = 0;
  for (int i = 0; i < 1'000'000; ++i) {
    const size_t size = random() % 3000;
    const bool expected = Draw(&never, size, kMean);
    const bool passed = often.Passes(size);
    ASSERT_EQ(!passed && often.Draw(size, kMean, 512), expected) << i;
    drawn += expected;
    asked += !passed;
  }
  EXPECT_GT(drawn, 20'000u);
  EXPECT_GT(asked, 500'000u);  // it was asked
}

TEST(PoissonSampler, PausesAndGoesOn) {
  constexpr uint64_t kMean = 1 << 20;
  PoissonSampler sampler = Seeded(5, kMean), other = sampler;
  const uint64_t left = sampler.Pause();
  EXPECT_FALSE(sampler.running());
  EXPECT_FALSE(sampler.Passes(1));
  sampler.Resume(left);
  for (int i = 0; i < 100'000; ++i) {
    ASSERT_EQ(Draw(&sampler, 700, kMean), Draw(&other, 700, kMean)) << i;
  }
  // What was never seeded stays off.
  PoissonSampler fresh = {};
  fresh.Resume(fresh.Pause());
  EXPECT_FALSE(fresh.running());
}

TEST(PoissonSampler, TheGreatestSizesAreDrawnAndDoNoHarm) {
  for (uint64_t mean : {uint64_t{1}, uint64_t{1} << 40}) {
    PoissonSampler sampler = Seeded(6, mean);
    for (size_t size : {SIZE_MAX, SIZE_MAX / 2, SIZE_MAX / 2 + 1, size_t{1} << 62}) {
      EXPECT_TRUE(Draw(&sampler, size, mean)) << size;
      EXPECT_TRUE(sampler.seeded());
    }
  }
}

TEST(PoissonSampler, SeedsDiffer) {
  constexpr uint64_t kMean = 1000;
  int same = 0, all = 0;
  PoissonSampler a = Seeded(100, kMean), b = Seeded(102, kMean);
  for (int i = 0; i < 100'000; ++i) {
    const bool drawn_a = Draw(&a, 100, kMean), drawn_b = Draw(&b, 100, kMean);
    all += drawn_a;
    same += drawn_a && drawn_b;
  }
  // Independent: one in ten of them.
  EXPECT_NEAR(same, all * 0.095, 5 * std::sqrt(all * 0.095));
}

}  // namespace
}  // namespace ollamatrace
