#include "analyzer/diagnose/residual.h"

#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using testing::ElementsAre;

constexpr uint64_t kMinute = 60'000'000'000;
constexpr int64_t kMiB = 1 << 20;

std::vector<ResidualPoint> Flat(size_t count, int64_t bytes) {
  std::vector<ResidualPoint> points(count);
  for (size_t i = 0; i < count; ++i) points[i] = {i * kMinute, bytes, 1, 0, 0, 0};
  return points;
}

void From(std::vector<ResidualPoint>& points, size_t first, int64_t bytes,
          uint64_t ResidualPoint::*count) {
  for (size_t i = first; i < points.size(); ++i) {
    points[i].bytes += bytes;
    if (count != nullptr) ++(points[i].*count);
  }
}

TEST(Residual, OneSampleIsTheContext) {
  const Residual residual = CalibrateResidual(Flat(1, 300 * kMiB));
  EXPECT_EQ(residual.first, 300 * kMiB);
  EXPECT_EQ(residual.last, 300 * kMiB);
  EXPECT_THAT(residual.by_stage, ElementsAre(300 * kMiB, 0, 0, 0, 0));
  EXPECT_FALSE(residual.per_hour.has_value());
}

TEST(Residual, WhatCameWithEachStage) {
  std::vector<ResidualPoint> points = Flat(60, 300 * kMiB);
  From(points, 5, 32 * kMiB, &ResidualPoint::libraries);
  From(points, 10, 7 * kMiB, &ResidualPoint::modules);
  From(points, 15, 2 * kMiB, &ResidualPoint::graphs);
  From(points, 20, 5 * kMiB, nullptr);
  From(points, 25, 200 * kMiB, &ResidualPoint::contexts);
  const Residual residual = CalibrateResidual(points);
  EXPECT_THAT(residual.by_stage, ElementsAre(500 * kMiB, 32 * kMiB, 7 * kMiB, 2 * kMiB, 5 * kMiB));
  EXPECT_EQ(residual.last, 546 * kMiB);
  ASSERT_TRUE(residual.per_hour.has_value());
  EXPECT_EQ(residual.per_hour->slope, 0);
}

// Memory may be there before or after what is told of it.
TEST(Residual, AStageCountsOneSampleEarlierOrLater) {
  for (const size_t shift : {4u, 5u, 6u}) {
    std::vector<ResidualPoint> points = Flat(20, 300 * kMiB);
    From(points, 5, 0, &ResidualPoint::modules);
    From(points, shift, 7 * kMiB, nullptr);
    EXPECT_EQ(CalibrateResidual(points).by_stage[2], 7 * kMiB) << shift;
  }
  for (const size_t shift : {3u, 7u}) {
    std::vector<ResidualPoint> points = Flat(20, 300 * kMiB);
    From(points, 5, 0, &ResidualPoint::modules);
    From(points, shift, 7 * kMiB, nullptr);
    EXPECT_EQ(CalibrateResidual(points).by_stage[4], 7 * kMiB) << shift;
  }
}

TEST(Residual, GraphsThatGrowAreInTheSlope) {
  std::vector<ResidualPoint> points = Flat(120, 300 * kMiB);
  for (size_t i = 1; i < points.size(); ++i) From(points, i, kMiB, &ResidualPoint::graphs);
  const Residual residual = CalibrateResidual(points);
  EXPECT_NEAR(residual.per_hour->slope, 60.0 * kMiB, 1);
  EXPECT_GT(residual.per_hour->low, 59.0 * kMiB);
  EXPECT_EQ(residual.by_stage[3], 118 * kMiB);  // and the first one the context's
}

TEST(Residual, ALibrarysFirstUseIsNoGrowth) {
  // In the middle, and in many pieces.
  std::vector<ResidualPoint> points = Flat(40, 300 * kMiB);
  for (size_t i = 15; i < 35; ++i) From(points, i, 32 * kMiB, &ResidualPoint::libraries);
  EXPECT_EQ(CalibrateResidual(points).per_hour->slope, 0);
}

TEST(Residual, MayBeNegative) {
  const Residual residual = CalibrateResidual(Flat(10, -5 * kMiB));
  EXPECT_EQ(residual.last, -5 * kMiB);
  EXPECT_EQ(residual.by_stage[0], -5 * kMiB);
}

}  // namespace
}  // namespace ollamatrace
