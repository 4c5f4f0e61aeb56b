#include "analyzer/replay/live_history.h"

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

TEST(LiveHistory, SumsWhatCameAfterASlot) {
  LiveHistory history;
  history.SetOrigin(100 * kSecond);
  for (uint64_t i = 0; i < 64; ++i) history.Add(0, (100 + i) * kSecond, 10);
  const uint64_t quarter = 116 * kSecond;
  const uint64_t slot_end = history.SlotEnd(quarter);
  EXPECT_GT(slot_end, quarter);
  EXPECT_LE(slot_end, quarter + 64 * kSecond / 8);
  int64_t expected = 0;
  for (uint64_t i = 0; i < 64; ++i) expected += (100 + i) * kSecond >= slot_end ? 10 : 0;
  EXPECT_EQ(history.After(0, quarter), expected);
}

TEST(LiveHistory, FreesCountDown) {
  LiveHistory history;
  history.Add(3, 1, 100);
  history.Add(3, 16 * kSecond, -100);
  EXPECT_EQ(history.After(3, 1), -100);
  EXPECT_EQ(history.After(2, 1), 0);
  EXPECT_EQ(history.After(99, 1), 0);
}

TEST(LiveHistory, TimesBeforeTheOriginAreInTheFirstSlot) {
  LiveHistory history;
  history.SetOrigin(kSecond);
  history.Add(0, 0, 5);
  history.Add(0, 100 * kSecond, 7);
  EXPECT_EQ(history.After(0, 0), 7);
}

TEST(LiveHistory, AnyTimeFits) {
  LiveHistory history;
  history.Add(0, 1, 1);
  history.Add(0, ~uint64_t{0}, 2);
  history.Add(0, ~uint64_t{0}, INT64_MIN);
  history.Add(0, ~uint64_t{0}, INT64_MIN);
  EXPECT_EQ(history.After(0, 0), 2);
  EXPECT_EQ(history.SlotEnd(~uint64_t{0}), ~uint64_t{0});
}

}  // namespace
}  // namespace ollamatrace
