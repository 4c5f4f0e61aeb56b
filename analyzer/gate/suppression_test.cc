#include "analyzer/gate/suppression.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;
using ::testing::SizeIs;

Report OneGroup() {
  Report report;
  report.frames = {{.function = "operator new(unsigned long)", .module = "/usr/lib/libstdc++.so.6"},
                   {.function = "app::Cache::Insert(int)",
                    .file = "/src/app/cache.cc",
                    .line = 12,
                    .module = "/opt/app/server"},
                   {.module = "/opt/app/plugin.so"}};
  ReportGroup group;
  group.verdict = "growth-per-request";
  group.frames = {0, 1, 2};
  report.groups = {group};
  return report;
}

bool Hits(const std::string& line) {
  const Report report = OneGroup();
  const auto suppression = ParseSuppression(line);
  EXPECT_TRUE(suppression.ok()) << suppression.status();
  return suppression.ok() && Suppresses(*suppression, report, report.groups[0]);
}

TEST(PatternMatches, AsLeakSanitizerDoes) {
  EXPECT_TRUE(PatternMatches("Cache", "app::Cache::Insert"));
  EXPECT_FALSE(PatternMatches("cache", "app::Cache::Insert"));
  EXPECT_TRUE(PatternMatches("^app*Insert$", "app::Cache::Insert"));
  EXPECT_FALSE(PatternMatches("^Cache", "app::Cache::Insert"));
  EXPECT_FALSE(PatternMatches("Cache$", "app::Cache::Insert"));
  EXPECT_TRUE(PatternMatches("*", ""));
  EXPECT_TRUE(PatternMatches("^abc$", "abc"));
  EXPECT_FALSE(PatternMatches("^abc$", "abcabc"));
  EXPECT_FALSE(PatternMatches("ab*ba$", "aba"));
  EXPECT_TRUE(PatternMatches("a*b$", "ab b"));
}

TEST(Suppression, LooksInFunctionFileAndModule) {
  EXPECT_TRUE(Hits("leak:Cache::Insert"));
  EXPECT_TRUE(Hits("leak:app/cache.cc"));
  EXPECT_TRUE(Hits("leak:plugin.so"));
  EXPECT_FALSE(Hits("leak:Other"));
  // A frame without a name is not matched by the empty text.
  EXPECT_FALSE(Hits("leak:^$"));
}

TEST(Suppression, ByVerdict) {
  EXPECT_TRUE(Hits("growth-per-request:Cache"));
  EXPECT_FALSE(Hits("cache:Cache"));
}

TEST(Suppression, WhatIsNone) {
  EXPECT_THAT(std::string(ParseSuppression("Cache").status().message()), HasSubstr("leak:PATTERN"));
  EXPECT_THAT(std::string(ParseSuppression("leek:x").status().message()), HasSubstr("\"leak\"?"));
  EXPECT_THAT(std::string(ParseSuppression("growth:x").status().message()),
              HasSubstr("unknown type \"growth\""));
  EXPECT_FALSE(ParseSuppression("leak:").ok());
}

TEST(Suppression, AFileOfThem) {
  const auto file = ParseSuppressions("lsan.supp", "# known\n\n  leak:a::b  \r\ncache:x\n");
  ASSERT_TRUE(file.ok());
  ASSERT_THAT(*file, SizeIs(2));
  EXPECT_EQ((*file)[0].pattern, "a::b");
  const auto bad = ParseSuppressions("lsan.supp", "leak:a\n\nrace:b\n");
  EXPECT_THAT(std::string(bad.status().message()), HasSubstr("lsan.supp:3: "));
}

}  // namespace
}  // namespace ollamatrace
