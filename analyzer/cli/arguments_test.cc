#include "analyzer/cli/arguments.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class ArgumentsTest : public ::testing::Test {
 protected:
  std::string Parse(const std::vector<std::string>& words, bool stop = false) {
    return std::string(ParseArguments(words, options_, stop, positional_).message());
  }

  std::string top_, output_;
  int flags_ = 0;
  std::vector<std::string> positional_;
  std::vector<Option> options_ = {{"--top", "N", "how many",
                                   [this](absl::string_view value) {
                                     if (value == "bad")
                                       return absl::InvalidArgumentError("not a number");
                                     top_ = std::string(value);
                                     return absl::OkStatus();
                                   }},
                                  {"-o, --output", "DIR", "where\nto",
                                   [this](absl::string_view value) {
                                     output_ = std::string(value);
                                     return absl::OkStatus();
                                   }},
                                  {"-h, --help", "", "help", [this](absl::string_view) {
                                     ++flags_;
                                     return absl::OkStatus();
                                   }}};
};

TEST_F(ArgumentsTest, ValuesInBothForms) {
  EXPECT_EQ(Parse({"a", "--top=5", "b", "--output", "x=y", "-h", "-"}), "");
  EXPECT_EQ(top_, "5");
  EXPECT_EQ(output_, "x=y");
  EXPECT_EQ(flags_, 1);
  EXPECT_THAT(positional_, ElementsAre("a", "b", "-"));
  EXPECT_EQ(Parse({"-o", "z", "--top="}), "");
  EXPECT_EQ(output_, "z");
  EXPECT_EQ(top_, "");
}

TEST_F(ArgumentsTest, AfterTwoDashesAllIsPositional) {
  EXPECT_EQ(Parse({"--top=1", "--", "--top=2", "--nonsense", "--"}), "");
  EXPECT_EQ(top_, "1");
  EXPECT_THAT(positional_, ElementsAre("--top=2", "--nonsense", "--"));
}

TEST_F(ArgumentsTest, SomebodyElsesCommandLine) {
  EXPECT_EQ(Parse({"-o", "d", "ls", "-l", "--top=9", "--"}, true), "");
  EXPECT_THAT(positional_, ElementsAre("ls", "-l", "--top=9", "--"));
  EXPECT_EQ(top_, "");
  positional_.clear();
  EXPECT_EQ(Parse({"--", "-x"}, true), "");
  EXPECT_THAT(positional_, ElementsAre("-x"));
}

TEST_F(ArgumentsTest, WhatIsWrong) {
  EXPECT_THAT(Parse({"--nope"}), HasSubstr("unknown option --nope"));
  EXPECT_THAT(Parse({"-x"}), HasSubstr("unknown option -x"));
  EXPECT_THAT(Parse({"--nope=3"}), HasSubstr("unknown option --nope;"));
  EXPECT_THAT(Parse({"--top"}), HasSubstr("--top needs a value: --top=N"));
  EXPECT_THAT(Parse({"--top=bad"}), HasSubstr("--top=bad: not a number"));
  EXPECT_THAT(Parse({"--help=yes"}), HasSubstr("--help takes no value"));
}

TEST_F(ArgumentsTest, Describes) {
  const std::string text = DescribeOptions(options_);
  EXPECT_THAT(text, HasSubstr("  --top=N                 how many\n"));
  EXPECT_THAT(text, HasSubstr("  -o, --output=DIR        where\n                          to\n"));
}

TEST(ParseBytes, Sizes) {
  const auto parse = [](const char* text) {
    uint64_t bytes = 1;
    return ParseBytes(text, bytes).ok() ? static_cast<int64_t>(bytes) : -1;
  };
  EXPECT_EQ(parse("0"), 0);
  EXPECT_EQ(parse("4096"), 4096);
  EXPECT_EQ(parse("64K"), 65536);
  EXPECT_EQ(parse("64k"), 65536);
  EXPECT_EQ(parse("1M"), 1 << 20);
  EXPECT_EQ(parse("1.5MiB"), 3 << 19);
  EXPECT_EQ(parse("2GB"), int64_t{2} << 30);
  EXPECT_EQ(parse("1T"), int64_t{1} << 40);
  EXPECT_EQ(parse("10B"), 10);
  for (const char* bad : {"", "K", "-1", "1X", "1KX", "1 K", "1e3", ".", "99999999999999999999",
                          "9999999999T", "1BB"}) {
    EXPECT_EQ(parse(bad), -1) << bad;
  }
}

TEST(ParseCount, Numbers) {
  uint64_t count = 0;
  EXPECT_TRUE(ParseCount("20", count).ok());
  EXPECT_EQ(count, 20u);
  for (const char* bad : {"", "-1", "x", "1.5", "99999999999999999999999"}) {
    EXPECT_FALSE(ParseCount(bad, count).ok()) << bad;
  }
}

}  // namespace
}  // namespace ollamatrace
