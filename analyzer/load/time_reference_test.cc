#include "analyzer/load/time_reference.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint64_t kStart = 1000 * kSecond;

TEST(ResolveTime, TimesSinceTheSessionsStart) {
  const auto after = [](const char* text) { return *ResolveTime(text, kStart, {}) - kStart; };
  EXPECT_EQ(after("90s"), 90 * kSecond);
  EXPECT_EQ(after("+10m"), 600 * kSecond);
  EXPECT_EQ(after("1.5h"), 5400 * kSecond);
  EXPECT_EQ(after("2d"), 172800 * kSecond);
  EXPECT_EQ(after("250ms"), kSecond / 4);
  EXPECT_EQ(after("7"), 7 * kSecond);
  EXPECT_EQ(after("0"), 0u);
  EXPECT_EQ(*ResolveTime("99999999999999999999d", kStart, {}), ~uint64_t{0});
}

TEST(ResolveTime, Marks) {
  const std::vector<Mark> marks = {{5, "phase", "load"}, {7, "phase", "unload"}, {9, "s", ""}};
  EXPECT_EQ(*ResolveTime("load", kStart, marks), 5u);
  EXPECT_EQ(*ResolveTime("phase#-1", kStart, marks), 7u);
  EXPECT_EQ(*ResolveTime("s", kStart, marks), 9u);
}

TEST(ResolveTime, WhatIsNeither) {
  const std::vector<Mark> marks = {{5, "phase", "load"}, {7, "request", ""}};
  for (const char* text : {"", "-5s", "1e9s", "0x10", "nan", "inf", "10 s", "s"}) {
    EXPECT_FALSE(ResolveTime(text, kStart, marks).ok()) << text;
  }
  EXPECT_THAT(std::string(ResolveTime("idle", kStart, marks).status().message()),
              ::testing::HasSubstr("its marks are load, request"));
  EXPECT_THAT(std::string(ResolveTime("idle", kStart, {}).status().message()),
              ::testing::HasSubstr("no marks"));
}

}  // namespace
}  // namespace ollamatrace
