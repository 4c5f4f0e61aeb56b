#include "analyzer/diagnose/growth.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;

LiveCurve Curve(const std::vector<double>& bytes) {
  LiveCurve curve;
  for (size_t i = 0; i < bytes.size(); ++i) {
    curve.x.push_back(static_cast<double>(i + 1));
    curve.seconds.push_back(static_cast<double>(i) * 2);
    curve.bytes.push_back(bytes[i]);
  }
  return curve;
}

TEST(Retained, OnlyWhatNeverWentAway) {
  EXPECT_THAT(Retained({1, 5, 2, 7, 3, 4}), ElementsAre(1, 2, 2, 3, 3, 4));
  EXPECT_THAT(Retained({}), ElementsAre());
}

TEST(Growth, NothingOfNothing) {
  EXPECT_EQ(AnalyzeGrowth({}).points, 0u);
  EXPECT_EQ(AnalyzeGrowth(Curve({0, 0, 0})).points, 0u);
  EXPECT_EQ(AnalyzeGrowth(Curve({5})).points, 1u);
}

TEST(Growth, StraightLine) {
  std::vector<double> bytes;
  for (int i = 0; i < 100; ++i) bytes.push_back(100.0 * i);
  const Growth growth = AnalyzeGrowth(Curve(bytes));
  EXPECT_FALSE(growth.warm_up_cut);
  EXPECT_DOUBLE_EQ(growth.slope.slope, 100);
  EXPECT_LT(growth.trend.p, 1e-4);
  EXPECT_EQ(growth.rises, 99u);
  EXPECT_NEAR(growth.above_line, 0, 0.01);
  EXPECT_NEAR(growth.late_by_early, 1, 0.05);
  EXPECT_DOUBLE_EQ(growth.last_rise, 1);
}

TEST(Growth, WarmUpIsCut) {
  std::vector<double> bytes;
  for (int i = 0; i < 100; ++i) bytes.push_back(i < 20 ? 1000.0 * i : 20'000.0 + 10 * i);
  const Growth growth = AnalyzeGrowth(Curve(bytes));
  EXPECT_TRUE(growth.warm_up_cut);
  EXPECT_NEAR(growth.from, 21, 2);
  EXPECT_NEAR(growth.slope.slope, 10, 1);
}

TEST(Growth, GrowthThatBeganIsNoWarmUp) {
  std::vector<double> bytes;
  for (int i = 0; i < 100; ++i) bytes.push_back(i < 40 ? 100 + i : 1000.0 * (i - 39));
  EXPECT_FALSE(AnalyzeGrowth(Curve(bytes)).warm_up_cut);
}

TEST(Growth, CapAndCollapses) {
  std::vector<double> bytes;
  for (int i = 0; i < 100; ++i) bytes.push_back(i % 25 == 0 ? 10 : 10 + 40.0 * (i % 25));
  const Growth saw = AnalyzeGrowth(Curve(bytes));
  EXPECT_EQ(saw.collapses, 3u);
  EXPECT_EQ(saw.peak_bytes, 10 + 40 * 24);

  bytes.clear();
  for (int i = 0; i < 100; ++i) bytes.push_back(i < 30 ? 10.0 * (i + 1) : 300);
  const Growth capped = AnalyzeGrowth(Curve(bytes));
  EXPECT_NEAR(capped.reached_cap, 0.3, 0.02);
  EXPECT_EQ(capped.collapses, 0u);
}

}  // namespace
}  // namespace ollamatrace
