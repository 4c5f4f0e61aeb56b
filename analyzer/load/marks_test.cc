#include "analyzer/load/marks.h"

#include <string>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(ParseMarks, ReadsOneMarkALineInOrderOfTime) {
  const Marks marks = ParseMarks(
      "{\"t\": 300, \"mark\": \"request\", \"n\": 2}\n"
      "{\"t\": 100, \"mark\": \"phase\", \"name\": \"load\"}\n"
      "\n"
      "  {\"mark\": \"request\", \"t\": 200}  \r\n");
  ASSERT_EQ(marks.marks.size(), 3u);
  EXPECT_EQ(marks.bad_lines, 0u);
  EXPECT_EQ(marks.marks[0].time_ns, 100u);
  EXPECT_EQ(marks.marks[0].name, "phase");
  EXPECT_EQ(marks.marks[0].label, "load");
  EXPECT_EQ(marks.marks[1].time_ns, 200u);
  EXPECT_EQ(marks.marks[2].time_ns, 300u);
  EXPECT_EQ(marks.marks[2].label, "");
}

TEST(ParseMarks, KeepsTheOrderOfTheFileAmongEqualTimes) {
  const Marks marks =
      ParseMarks("{\"t\":1,\"mark\":\"b\"}\n{\"t\":1,\"mark\":\"a\"}\n{\"t\":0,\"mark\":\"c\"}\n");
  ASSERT_EQ(marks.marks.size(), 3u);
  EXPECT_EQ(marks.marks[0].name, "c");
  EXPECT_EQ(marks.marks[1].name, "b");
  EXPECT_EQ(marks.marks[2].name, "a");
}

TEST(ParseMarks, CountsWhatIsNoMark) {
  for (const std::string line :
       {"not json", "[1, 2]", "{\"t\": 1}", "{\"mark\": \"x\"}", "{\"t\": -1, \"mark\": \"x\"}",
        "{\"t\": 1.5, \"mark\": \"x\"}", "{\"t\": \"1\", \"mark\": \"x\"}",
        "{\"t\": 1, \"mark\": 2}", "{\"t\": 1, \"mark\": \"x\"", "\xff\xfe", "{\"t\": 1e400}",
        "{\"t\": 99999999999999999999999, \"mark\": \"x\"}"}) {
    const Marks marks = ParseMarks(line + "\n{\"t\": 7, \"mark\": \"good\"}\n");
    EXPECT_EQ(marks.bad_lines, 1u) << line;
    ASSERT_EQ(marks.marks.size(), 1u) << line;
    EXPECT_EQ(marks.marks[0].name, "good") << line;
  }
}

TEST(ParseMarks, ALabelThatIsNoTextIsNoLabel) {
  const Marks marks = ParseMarks("{\"t\": 1, \"mark\": \"phase\", \"name\": 3}");
  ASSERT_EQ(marks.marks.size(), 1u);
  EXPECT_EQ(marks.marks[0].label, "");
}

TEST(ParseMarks, SurvivesDeepNesting) {
  EXPECT_EQ(ParseMarks(std::string(200000, '[')).bad_lines, 1u);
  std::string deep = "{\"t\": 1, \"mark\": \"x\", \"more\": ";
  deep += std::string(100000, '[') + std::string(100000, ']') + "}";
  EXPECT_EQ(ParseMarks(deep).marks.size(), 1u);
}

TEST(FindMark, ByNameByLabelAndByNumber) {
  const Marks marks = ParseMarks(
      "{\"t\":1,\"mark\":\"phase\",\"name\":\"load\"}\n"
      "{\"t\":2,\"mark\":\"request\"}\n"
      "{\"t\":3,\"mark\":\"request\"}\n"
      "{\"t\":4,\"mark\":\"load\"}\n"
      "{\"t\":5,\"mark\":\"odd#name\"}\n");
  const auto time = [&](const char* reference) -> uint64_t {
    const Mark* mark = FindMark(marks.marks, reference);
    return mark == nullptr ? 0 : mark->time_ns;
  };
  EXPECT_EQ(time("load"), 1u);
  EXPECT_EQ(time("load#2"), 4u);
  EXPECT_EQ(time("load#-1"), 4u);
  EXPECT_EQ(time("load#-2"), 1u);
  EXPECT_EQ(time("request#1"), 2u);
  EXPECT_EQ(time("request#-1"), 3u);
  EXPECT_EQ(time("phase"), 1u);
  EXPECT_EQ(time("odd#name"), 5u);
  EXPECT_EQ(time("load#3"), 0u);
  EXPECT_EQ(time("load#-3"), 0u);
  EXPECT_EQ(time("load#0"), 0u);
  EXPECT_EQ(time("nothing"), 0u);
  EXPECT_EQ(time("#-9223372036854775808"), 0u);
  EXPECT_EQ(time(""), 0u);
}

}  // namespace
}  // namespace ollamatrace
