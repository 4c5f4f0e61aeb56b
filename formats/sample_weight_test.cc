#include "formats/sample_weight.h"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(ChanceOf, EqualsTheRealOne) {
  for (double x = 1e-18; x < 1e4; x *= 1.01) {
    const double real = -std::expm1(-x);
    EXPECT_NEAR(ChanceOf(x) / real, 1, 3e-14) << x;
    EXPECT_LE(ChanceOf(x), 1) << x;
  }
  EXPECT_EQ(ChanceOf(0), 0);
  EXPECT_EQ(ChanceOf(std::numeric_limits<double>::infinity()), 1);
}

TEST(SampleWeight, WhatIsNotDrawnStandsForItself) {
  const SampleWeight weight = WeightOf(123, 0);
  EXPECT_EQ(weight.blocks, SampleWeight::kOneBlock);
  EXPECT_EQ(weight.bytes, 123u);
  EXPECT_EQ(weight.blocks_variance, 0u);
  EXPECT_EQ(weight.bytes_variance, 0u);
}

TEST(SampleWeight, IsTheInverseOfTheChance) {
  for (uint64_t mean : {uint64_t{1}, uint64_t{1000}, uint64_t{512} << 10, kMaxSampleBytes}) {
    for (uint64_t size : {uint64_t{1}, uint64_t{16}, uint64_t{500}, uint64_t{4096},
                          uint64_t{1} << 20, uint64_t{1} << 40}) {
      const double x = static_cast<double>(size) / static_cast<double>(mean);
      const double chance = -std::expm1(-x);
      const double bytes = static_cast<double>(size) / chance;
      const SampleWeight weight = WeightOf(size, mean);
      EXPECT_NEAR(static_cast<double>(weight.blocks) / SampleWeight::kOneBlock, 1 / chance,
                  1e-5 / chance);
      EXPECT_NEAR(static_cast<double>(weight.bytes), bytes, 0.5 + 1e-12 * bytes);
      EXPECT_NEAR(
          static_cast<double>(weight.bytes_variance) / SampleWeight::kOneBytesVariance,
          bytes * bytes * (1 - chance) / static_cast<double>(mean) / static_cast<double>(mean),
          1.0 / SampleWeight::kOneBytesVariance);
      const double blocks_variance = (1 - chance) / chance / chance;
      if (blocks_variance < 0x1p54) {
        EXPECT_NEAR(static_cast<double>(weight.blocks_variance) / SampleWeight::kOneBlockVariance,
                    blocks_variance,
                    1.0 / SampleWeight::kOneBlockVariance + 1e-11 * blocks_variance);
      } else {
        EXPECT_EQ(weight.blocks_variance, uint64_t{1} << 63);
      }
    }
  }
}

TEST(SampleWeight, LargeBlocksStandForThemselves) {
  for (uint64_t size : {uint64_t{1} << 48, ~uint64_t{0}}) {
    const SampleWeight weight = WeightOf(size, 512 << 10);
    EXPECT_EQ(weight.blocks, SampleWeight::kOneBlock);
    EXPECT_EQ(weight.bytes, size);
    EXPECT_EQ(weight.blocks_variance, 0u);
    EXPECT_EQ(weight.bytes_variance, 0u);
  }
}

TEST(SampleWeight, ABlockOfNoBytesCountsAsABlock) {
  const SampleWeight none = WeightOf(0, 1000), one = WeightOf(1, 1000);
  EXPECT_EQ(none.bytes, 0u);
  EXPECT_EQ(none.blocks, one.blocks);
  EXPECT_GT(none.blocks, 999 * SampleWeight::kOneBlock);
}

// A damaged header's distances.
TEST(SampleWeight, AnyDistanceGivesANumber) {
  for (uint64_t mean : {uint64_t{1} << 63, ~uint64_t{0}}) {
    for (uint64_t size : {uint64_t{0}, uint64_t{1}, ~uint64_t{0}}) {
      const SampleWeight weight = WeightOf(size, mean);
      EXPECT_GE(weight.blocks, SampleWeight::kOneBlock);
      EXPECT_GE(weight.bytes, size / 2);
    }
  }
}

TEST(ParseSampleMode, NeedsTheWholeText) {
  const auto parse = [](std::string_view text) {
    uint64_t bytes = 0;
    return ParseSampleMode(text.data(), text.size(), &bytes) ? bytes : 0;
  };
  EXPECT_EQ(parse("sample:512K"), 512u << 10);
  EXPECT_EQ(parse("sample:7"), 7u);
  EXPECT_EQ(parse(std::string_view("sample:512K", 10)), 512u);
  EXPECT_EQ(parse(std::string_view("sample:5\0", 9)), 0u);
  EXPECT_EQ(parse("sample:"), 0u);
  EXPECT_EQ(parse("sample:KK"), 0u);
  EXPECT_EQ(parse(""), 0u);
}

}  // namespace
}  // namespace ollamatrace
