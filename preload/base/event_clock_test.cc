#include "preload/base/event_clock.h"

#include <gtest/gtest.h>

namespace ollamatrace {
namespace {

// A clock that goes on with each look at it that is not kept from it.
struct Time {
  uint64_t now = 1000;
  int reads = 0;

  uint64_t Of(EventClock* clock, uint32_t turn) {
    return clock->Next(turn, [this] {
      ++reads;
      return now;
    });
  }
};

TEST(EventClockTest, ReadsForEachEventWhereNobodyComesBy) {
  EventClock clock;
  Time time;
  for (int i = 0; i < 20; ++i) {
    ++time.now;
    EXPECT_EQ(time.Of(&clock, 0), time.now);
  }
  EXPECT_EQ(time.reads, 20);
}

TEST(EventClockTest, AFewEventsOfATurnShareATime) {
  EventClock clock;
  Time time;
  for (uint32_t i = 0; i < 10 * EventClock::kEvents; ++i) {
    const uint64_t since = i / EventClock::kEvents * EventClock::kEvents;
    EXPECT_EQ(time.Of(&clock, 5), 1000 + since);
    ++time.now;
  }
  EXPECT_EQ(time.reads, 10);
}

TEST(EventClockTest, ReadsWhenTheTurnChanges) {
  EventClock clock;
  Time time;
  time.Of(&clock, 5);
  for (const uint32_t turn : {6u, 0u, 6u, 7u}) {
    ++time.now;
    EXPECT_EQ(time.Of(&clock, turn), time.now) << turn;
  }
  ++time.now;
  EXPECT_EQ(time.Of(&clock, 7), time.now - 1);
  clock.Expire();
  EXPECT_EQ(time.Of(&clock, 7), time.now);
  EXPECT_EQ(clock.last(), time.now);
}

TEST(EventClockTest, LifetimesAreRightOnAverage) {
  EventClock clock;
  Time time;
  uint64_t lifetimes = 0;
  constexpr int kPairs = 7 * 1000;
  for (int i = 0; i < kPairs; ++i) {
    const uint64_t born = time.Of(&clock, 1);
    time.now += 30;  // its lifetime
    lifetimes += time.Of(&clock, 1) - born;
    time.now += 30;  // until the next one's birth
  }
  EXPECT_EQ(lifetimes, 30u * kPairs);
}

}  // namespace
}  // namespace ollamatrace
