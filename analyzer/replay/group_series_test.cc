#include "analyzer/replay/group_series.h"

#include <numeric>
#include <random>
#include <vector>

#include "analyzer/replay/death_ages.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kOrigin = 500 * kSecond;

GroupSeries::Sums SumsOf(const GroupSeries& series, size_t row) {
  GroupSeries::Sums sums;
  series.AddTo(row, sums);
  return sums;
}

template <typename T>
T Total(const std::vector<T>& values) {
  return std::accumulate(values.begin(), values.end(), T{});
}

// What a row held at the end of the slot that `time_ns` lies in.
int64_t LevelAt(const GroupSeries& series, size_t row, uint64_t time_ns) {
  const GroupSeries::Sums sums = SumsOf(series, row);
  const auto end = sums.time.begin() + static_cast<std::ptrdiff_t>(series.SlotOfTime(time_ns)) + 1;
  return std::accumulate(sums.time.begin(), end, int64_t{0});
}

TEST(GroupSeries, NothingAdded) {
  GroupSeries series;
  series.SetOrigin(kOrigin);
  EXPECT_EQ(series.time_slots(), 0u);
  EXPECT_EQ(SumsOf(series, 7).time.size(), 0u);
}

TEST(GroupSeries, LevelsOverALongAndAShortSession) {
  for (const uint64_t length : {kSecond / 10, kSecond, 3600 * kSecond, 90 * 86400 * kSecond}) {
    GroupSeries series;
    series.SetOrigin(kOrigin);
    for (uint64_t i = 0; i < 1000; ++i) series.Add(3, kOrigin + length / 1000 * i, 100);
    EXPECT_LE(series.time_slots(), GroupSeries::kTimeSlots);
    EXPECT_GT(series.time_slots(), GroupSeries::kTimeSlots / 2 - 1) << length;
    EXPECT_EQ(LevelAt(series, 3, kOrigin + length), 100'000);
    EXPECT_NEAR(static_cast<double>(LevelAt(series, 3, kOrigin + length / 2)), 50'000, 1000);
  }
}

TEST(GroupSeries, TimesInAnyOrderGiveTheSame) {
  struct Event {
    size_t row;
    uint64_t time;
    int64_t bytes;
  };
  std::mt19937 random(5);
  std::vector<Event> events;
  for (int i = 0; i < 5000; ++i) {
    events.push_back({random() % 20, kOrigin + random() % 1000 * kSecond,
                      static_cast<int64_t>(random() % 1000) - 300});
  }
  // The axis' resolution follows from its length: both reach the end first.
  events.front().time = kOrigin + 1000 * kSecond;
  GroupSeries one, two;
  one.SetOrigin(kOrigin);
  two.SetOrigin(kOrigin);
  for (const Event& event : events) one.Add(event.row, event.time, event.bytes);
  for (auto event = events.rbegin(); event != events.rend(); ++event) {
    two.Add(event->row, event->time, event->bytes);
  }
  for (size_t row = 0; row < 20; ++row) {
    EXPECT_EQ(SumsOf(one, row).time, SumsOf(two, row).time);
    EXPECT_EQ(SumsOf(one, row).born, SumsOf(two, row).born);
  }
}

TEST(GroupSeries, WhatHappenedBeforeTheOriginCountsFromIt) {
  GroupSeries series;
  series.SetOrigin(kOrigin);
  series.Add(0, 5, 10);
  series.Add(0, kOrigin + 10 * kSecond, 20);
  EXPECT_EQ(LevelAt(series, 0, kOrigin), 10);
}

TEST(GroupSeries, Requests) {
  std::vector<uint64_t> times;
  for (uint64_t i = 0; i < 1000; ++i) times.push_back(kOrigin + kSecond + i * kSecond / 10);
  GroupSeries series;
  series.SetOrigin(kOrigin);
  series.SetRequests(times);
  series.Add(0, kOrigin, 5000);
  // Just before each answer, and the marks are the answers' times.
  for (const uint64_t time : times) series.Add(0, time, 7);
  // A day later.
  series.Add(0, kOrigin + 86400 * kSecond, 99);
  const GroupSeries::Sums sums = SumsOf(series, 0);
  ASSERT_EQ(sums.requests.size(), series.request_slots());
  EXPECT_EQ(Total(sums.requests), 5000 + 7 * 1000);
  EXPECT_EQ(Total(sums.time), 5000 + 7 * 1000 + 99);
  EXPECT_GT(series.request_slots(), 60u);
  int64_t level = 5000;
  for (size_t i = 0; i < series.request_slots(); ++i) {
    level += sums.requests[i] - (i == 0 ? 5000 : 0);
    EXPECT_EQ(level, 5000 + 7 * static_cast<int64_t>(series.RequestsAt(i))) << i;
  }
  EXPECT_EQ(series.RequestsAt(series.request_slots() - 1), 1000u);
}

TEST(GroupSeries, AProcessThatSawFewOfTheRequestsKeepsThemApart) {
  std::vector<uint64_t> times;
  for (uint64_t i = 0; i < 100'000; ++i) times.push_back(kOrigin + i * kSecond);
  GroupSeries series;
  series.SetOrigin(kOrigin);
  series.SetRequests(times);
  for (uint64_t i = 0; i < 100; ++i) series.Add(0, times[i], 1);
  EXPECT_EQ(series.request_slots(), 100u);
}

TEST(GroupSeries, GenerationsTellWhatStayed) {
  GroupSeries series;
  series.SetOrigin(kOrigin);
  for (uint64_t i = 0; i < 320; ++i) {
    series.Add(0, kOrigin + i * kSecond, 10);  // stays
    series.Add(1, kOrigin + i * kSecond, 10);  // lives 40 s
    if (i >= 40) series.Add(1, kOrigin + i * kSecond, -10);
  }
  series.ReachTo(kOrigin + 320 * kSecond);
  for (uint64_t i = 0; i < 320; ++i) {
    series.AddSurvivor(0, kOrigin + i * kSecond, 10);
    if (i >= 280) series.AddSurvivor(1, kOrigin + i * kSecond, 10);
  }
  const GroupSeries::Sums leak = SumsOf(series, 0), cache = SumsOf(series, 1);
  EXPECT_EQ(leak.born, leak.live);
  EXPECT_EQ(Total(cache.born), 3200u);
  EXPECT_EQ(Total(cache.live), 400u);
  EXPECT_EQ(cache.live[0], 0u);
  EXPECT_EQ(cache.live[series.GenerationOfTime(kOrigin + 150 * kSecond)], 0u);
  EXPECT_GT(cache.live[series.GenerationOfTime(kOrigin + 319 * kSecond)], 0u);
}

// So many rows that all of them have to do with fewer slots.
TEST(GroupSeries, ManyBusyRowsAreCoarseAndRight) {
  constexpr size_t kRows = 40'000;
  std::vector<uint64_t> times;
  for (uint64_t i = 0; i < 64; ++i) times.push_back(kOrigin + i * 10 * kSecond);
  GroupSeries series;
  series.SetOrigin(kOrigin);
  series.SetRequests(times);
  for (uint64_t i = 0; i < 32; ++i) {
    for (size_t row = 0; row < kRows; ++row) {
      series.Add(row, kOrigin + i * 20 * kSecond, static_cast<int64_t>(row + 1));
    }
  }
  EXPECT_LT(series.time_slots(), GroupSeries::kTimeSlots / 2);
  for (const size_t row : {size_t{0}, kRows / 2, kRows - 1}) {
    const GroupSeries::Sums sums = SumsOf(series, row);
    EXPECT_EQ(Total(sums.time), 32 * static_cast<int64_t>(row + 1));
    EXPECT_EQ(Total(sums.born), 32 * (row + 1));
    EXPECT_EQ(Total(sums.requests), 32 * static_cast<int64_t>(row + 1));
    EXPECT_NEAR(static_cast<double>(LevelAt(series, row, kOrigin + 320 * kSecond)),
                16.0 * static_cast<double>(row + 1), 2.0 * static_cast<double>(row + 1));
  }
}

// The slots become coarser at the very moment that a row gets its fifth one: of its first four,
// pairs have become one.
TEST(GroupSeries, RowsThatChangedInNeighbouringSlots) {
  GroupSeries series;
  series.SetOrigin(kOrigin);
  constexpr size_t kRows = GroupSeries::kMaxBusySlots / 125;
  series.Add(0, kOrigin + 250 * kSecond, 1);  // sets the width of the slots
  for (size_t row = 1; row < kRows; ++row) {
    for (uint64_t slot = 0; slot < 6; ++slot) series.Add(row, kOrigin + slot * kSecond * 2, 10);
  }
  EXPECT_LT(series.time_slots(), GroupSeries::kTimeSlots / 2);
  for (size_t row = 1; row < kRows; ++row) {
    const GroupSeries::Sums sums = SumsOf(series, row);
    ASSERT_EQ(Total(sums.time), 60) << row;
    ASSERT_EQ(Total(sums.born), 60u) << row;
  }
}

TEST(DeathAges, Buckets) {
  DeathAges ages;
  ages.Add(4, 0);
  ages.Add(4, 3 * kSecond);
  ages.Add(4, 3 * kSecond);
  ages.Add(4, ~uint64_t{0});
  const DeathAges::Counts& counts = ages.Of(4);
  EXPECT_EQ(counts[0], 1u);
  EXPECT_EQ(counts[DeathAges::kBuckets - 1], 1u);
  size_t bucket = 0;
  while (DeathAges::LimitNs(bucket) <= 3 * kSecond) ++bucket;
  EXPECT_EQ(counts[bucket], 2u);
  EXPECT_EQ(ages.Of(3)[0], 0u);
  EXPECT_EQ(ages.Of(1000)[0], 0u);
}

}  // namespace
}  // namespace ollamatrace
