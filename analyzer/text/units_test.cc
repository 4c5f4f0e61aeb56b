#include "analyzer/text/units.h"

#include <utility>
#include <vector>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(FormatBytes, EveryUnit) {
  EXPECT_EQ(FormatBytes(0), "0 B");
  EXPECT_EQ(FormatBytes(1023), "1023 B");
  EXPECT_EQ(FormatBytes(1024), "1.0 KiB");
  EXPECT_EQ(FormatBytes(1.5), "1.5 B");
  EXPECT_EQ(FormatBytes(8 * 1024), "8.0 KiB");
  EXPECT_EQ(FormatBytes(1048575), "1.0 MiB");
  EXPECT_EQ(FormatBytes(1.25 * 1073741824), "1.2 GiB");
  EXPECT_EQ(FormatBytes(-2048), "-2.0 KiB");
  EXPECT_EQ(FormatBytes(1.8446744073709552e19), "16.0 EiB");
}

TEST(FormatCount, Thousands) {
  EXPECT_EQ(FormatCount(0), "0");
  EXPECT_EQ(FormatCount(999), "999");
  EXPECT_EQ(FormatCount(1000), "1,000");
  EXPECT_EQ(FormatCount(~uint64_t{0}), "18,446,744,073,709,551,615");
}

TEST(FormatSeconds, EveryUnit) {
  EXPECT_EQ(FormatSeconds(0), "0.00 s");
  EXPECT_EQ(FormatSeconds(9.99), "9.99 s");
  EXPECT_EQ(FormatSeconds(9.999), "10.0 s");
  EXPECT_EQ(FormatSeconds(119.94), "119.9 s");
  EXPECT_EQ(FormatSeconds(125), "2 min 5 s");
  EXPECT_EQ(FormatSeconds(3599.6), "1 h 0 min");
  EXPECT_EQ(FormatSeconds(3 * 3600 + 12 * 60), "3 h 12 min");
  EXPECT_EQ(FormatSeconds(52 * 3600), "2 d 4 h");
  EXPECT_EQ(FormatSeconds(1e300), "long");
}

TEST(ParseSeconds, EveryUnit) {
  double seconds = 0;
  for (const auto& [text, expected] : std::vector<std::pair<const char*, double>>{{"90", 90},
                                                                                  {"90s", 90},
                                                                                  {"250ms", 0.25},
                                                                                  {"5m", 300},
                                                                                  {"5min", 300},
                                                                                  {"1.5h", 5400},
                                                                                  {"3d", 259200}}) {
    EXPECT_TRUE(ParseSeconds(text, seconds).ok()) << text;
    EXPECT_DOUBLE_EQ(seconds, expected) << text;
  }
  for (const char* text : {"", "s", "-5s", "5 min", "1e3", "nan", "5minutes"}) {
    EXPECT_FALSE(ParseSeconds(text, seconds).ok()) << text;
  }
}

}  // namespace
}  // namespace ollamatrace
