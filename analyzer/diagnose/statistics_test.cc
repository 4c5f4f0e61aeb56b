#include "analyzer/diagnose/statistics.h"

#include <random>
#include <vector>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using Values = std::vector<double>;

Values Count(size_t n) {
  Values x;
  for (size_t i = 0; i < n; ++i) x.push_back(static_cast<double>(i));
  return x;
}

// Reference values in this file: scipy 1.x theilslopes, pymannkendall 1.4, unless one can count
// them by hand.
const Values kDigits = {3, 1, 4, 1, 5, 9, 2, 6, 5, 3};
const Values kRising = {1, 2, 2, 4, 5, 5, 5, 8, 9, 10, 12, 11};

TEST(Median, OddEvenNone) {
  EXPECT_EQ(Median({3, 1, 2}), 2);
  EXPECT_EQ(Median({4, 1, 2, 3}), 2.5);
  EXPECT_EQ(Median({}), 0);
}

TEST(TheilSen, AsScipy) {
  const Slope digits = TheilSen(Count(10), kDigits);
  EXPECT_NEAR(digits.slope, 1.0 / 3, 1e-12);
  EXPECT_NEAR(digits.low, -0.5, 1e-12);
  EXPECT_NEAR(digits.high, 5.0 / 6, 1e-12);
  const Slope rising = TheilSen(Values{0, 1, 2, 4, 5, 6, 7, 9, 10, 12, 13, 15}, kRising);
  EXPECT_NEAR(rising.slope, 0.75, 1e-12);
  EXPECT_NEAR(rising.low, 0.6428571428571429, 1e-12);
  EXPECT_NEAR(rising.high, 0.875, 1e-12);
}

TEST(TheilSen, AQuarterOfThePointsMayBeAnything) {
  Values y = Count(40);
  for (size_t i = 0; i < 40; i += 4) y[i] = i % 8 == 0 ? 1e9 : -1e9;
  EXPECT_NEAR(TheilSen(Count(40), y).slope, 1, 0.01);
}

TEST(TheilSen, FewPoints) {
  EXPECT_EQ(TheilSen({}, {}).slope, 0);
  EXPECT_EQ(TheilSen(Values{1}, Values{5}).slope, 0);
  EXPECT_EQ(TheilSen(Values{1, 1}, Values{5, 7}).slope, 0);
  EXPECT_EQ(TheilSen(Values{1, 3}, Values{5, 7}).slope, 1);
}

TEST(MannKendall, AsPymannkendall) {
  const Trend digits = MannKendall(kDigits);
  EXPECT_EQ(digits.s, 12);
  EXPECT_EQ(digits.variance, 122);  // three pairs of equal values
  EXPECT_NEAR(digits.z, 0.9958932064677039, 1e-12);
  EXPECT_NEAR(digits.p, 0.31930203648285493, 1e-12);
  const Trend rising = MannKendall(kRising);
  EXPECT_EQ(rising.s, 60);
  EXPECT_EQ(rising.variance, 208);
  EXPECT_NEAR(rising.tau, 0.9090909090909091, 1e-12);
  EXPECT_NEAR(rising.p, 4.2967655219383616e-05, 1e-15);
}

TEST(MannKendall, ByHand) {
  // Of 4 rising values all 6 pairs rise; the variance is 4*3*13/18.
  const Trend trend = MannKendall(Values{1, 2, 3, 4});
  EXPECT_EQ(trend.s, 6);
  EXPECT_EQ(trend.tau, 1);
  EXPECT_NEAR(trend.variance, 4.0 * 3 * 13 / 18, 1e-12);
  EXPECT_EQ(MannKendall(Values{5, 5, 5, 5, 5}).p, 1);
  EXPECT_EQ(MannKendall({}).p, 1);
  EXPECT_LT(MannKendall(Values{4, 3, 2, 1, 0, -1, -2, -3}).z, 0);
}

TEST(MannKendall, AStepIsNotACertainTrend) {
  Values step(20, 0);
  for (size_t i = 10; i < 20; ++i) step[i] = 1;
  const Trend naive = MannKendall(step);
  EXPECT_NEAR(naive.z, 3.7418482827913495, 1e-12);
  const Trend careful = MannKendallAutocorrelated(step);
  EXPECT_GT(careful.p, 0.005);
  EXPECT_LT(careful.z, 2.8);
}

TEST(MannKendall, ALineIsATrendWithAndWithoutCorrection) {
  EXPECT_LT(MannKendallAutocorrelated(Count(16)).p, 1e-6);
  EXPECT_NEAR(MannKendallAutocorrelated(kRising).p, 4.2967655219383616e-05, 1e-15);
}

TEST(MannKendall, WanderingLevelsAreSeldomTakenForATrend) {
  // A level that reverts slowly to its mean: neighbours are alike, without any trend.
  int naive = 0, careful = 0;
  for (unsigned seed = 1; seed <= 200; ++seed) {
    std::mt19937 random(seed);
    std::normal_distribution<double> step;
    Values level;
    double now = 0;
    for (int i = 0; i < 64; ++i) level.push_back(now = 0.8 * now + step(random));
    naive += MannKendall(level).p < 0.01 ? 1 : 0;
    careful += MannKendallAutocorrelated(level).p < 0.01 ? 1 : 0;
  }
  EXPECT_GT(naive, 40);
  EXPECT_LT(careful, naive / 2);
}

TEST(TwoLines, FindsTheCornerAndTheStep) {
  Values capped;
  for (size_t i = 0; i < 40; ++i) capped.push_back(i < 25 ? static_cast<double>(i) : 25);
  const TwoLines corner = FitTwoLines(Count(40), capped, 4);
  EXPECT_NEAR(static_cast<double>(corner.cut), 25, 1);
  EXPECT_NEAR(corner.first_slope, 1, 0.05);
  EXPECT_NEAR(corner.second_slope, 0, 0.05);
  EXPECT_GT(corner.gain, 0.99);
  Values burst = Count(40);
  for (size_t i = 3; i < 40; ++i) burst[i] += 1e6;
  EXPECT_EQ(FitTwoLines(Count(40), burst, 2).cut, 3u);
}

TEST(TwoLines, OneLineIsEnough) {
  EXPECT_EQ(FitTwoLines(Count(40), Count(40), 4).cut, 0u);
  EXPECT_EQ(FitTwoLines(Count(3), Count(3), 2).cut, 0u);
  EXPECT_NEAR(FitTwoLines(Count(40), Count(40), 4).second_slope, 1, 1e-9);
}

}  // namespace
}  // namespace ollamatrace
