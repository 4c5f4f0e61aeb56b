#include "analyzer/watch/level_history.h"

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(LevelHistory, ASlopeByHour) {
  LevelHistory levels;
  for (int i = 0; i < 100; ++i) levels.Add(2 * i, 1000 + 10.0 * i);
  EXPECT_FALSE(levels.GrowthByHour(300).has_value());
  const auto slope = levels.GrowthByHour(60);
  ASSERT_TRUE(slope.has_value());
  EXPECT_NEAR(slope->by_hour, 5 * 3600, 1);
  EXPECT_NEAR(slope->sure, 5 * 3600, 1);
}

TEST(LevelHistory, DaysInTheSameFewPoints) {
  LevelHistory levels;
  // Three days, a look every two seconds, 1 MiB an hour.
  for (int i = 0; i < 129'600; ++i) levels.Add(2.0 * i, (1 << 20) * (2.0 * i / 3600) + 5e6);
  const auto slope = levels.GrowthByHour(60);
  ASSERT_TRUE(slope.has_value());
  EXPECT_NEAR(slope->by_hour, 1 << 20, 1000);
}

TEST(LevelHistory, AFlatOneDoesNotGrow) {
  LevelHistory levels;
  for (int i = 0; i < 100; ++i) levels.Add(2 * i, 1e6);
  EXPECT_EQ(levels.GrowthByHour(60)->by_hour, 0);
}

}  // namespace
}  // namespace ollamatrace
