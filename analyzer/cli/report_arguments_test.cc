#include "analyzer/cli/report_arguments.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string Error(const std::vector<std::string>& words) {
  ReportArguments arguments;
  return std::string(ParseReportArguments(words, arguments).message());
}

TEST(ReportArguments, Defaults) {
  ReportArguments arguments;
  ASSERT_TRUE(ParseReportArguments({"d"}, arguments).ok());
  EXPECT_THAT(arguments.paths, ElementsAre("d"));
  EXPECT_EQ(arguments.format, Format::kText);
  EXPECT_EQ(arguments.query.top, 20u);
  EXPECT_EQ(arguments.query.group_by, GroupBy::kStack);
  EXPECT_EQ(arguments.text.frames, 10u);
  ReportArguments json;
  ASSERT_TRUE(ParseReportArguments({"--format=json", "d"}, json).ok());
  EXPECT_EQ(json.query.top, 0u);
}

TEST(ReportArguments, Everything) {
  ReportArguments arguments;
  ASSERT_TRUE(ParseReportArguments(
                  {"--format", "json", "--top=7", "--group-by=function", "--merge-processes",
                   "--process=a,17", "--process", "b", "--module=lib", "--function=f<int, long>",
                   "--min-bytes=1M", "--domain=heap,mapping", "--since=10s", "--until=load#3",
                   "--sysroot=/root", "--debug-dir=/debug", "--frames=0", "x", "y"},
                  arguments)
                  .ok());
  EXPECT_THAT(arguments.paths, ElementsAre("x", "y"));
  EXPECT_EQ(arguments.query.top, 7u);
  EXPECT_EQ(arguments.query.group_by, GroupBy::kFunction);
  EXPECT_TRUE(arguments.query.merge_processes);
  EXPECT_THAT(arguments.query.processes, ElementsAre("a", "17", "b"));
  EXPECT_THAT(arguments.query.modules, ElementsAre("lib"));
  EXPECT_THAT(arguments.query.functions, ElementsAre("f<int, long>"));
  EXPECT_EQ(arguments.query.min_bytes, 1u << 20);
  EXPECT_THAT(arguments.query.domains, ElementsAre("heap", "mapping"));
  EXPECT_EQ(arguments.since, "10s");
  EXPECT_EQ(arguments.until, "load#3");
  EXPECT_EQ(arguments.symbols.sysroot, "/root");
  EXPECT_THAT(arguments.symbols.debug_directories, ElementsAre("/usr/lib/debug", "/debug"));
  EXPECT_EQ(arguments.text.frames, 0u);
}

TEST(ReportArguments, WhatIsWrong) {
  EXPECT_THAT(Error({}), HasSubstr("no trace given"));
  EXPECT_THAT(Error({"--format=klingon", "d"}), HasSubstr("give text, json"));
  EXPECT_THAT(Error({"--group-by=color", "d"}), HasSubstr("stack, function, module, thread"));
  EXPECT_THAT(Error({"--domain=gpu", "d"}), HasSubstr("give heap, mapping, break, device"));
  EXPECT_THAT(Error({"--min-bytes=lots", "d"}), HasSubstr("--min-bytes=lots: not a size"));
  EXPECT_THAT(Error({"--top=-1", "d"}), HasSubstr("not a number"));
  EXPECT_THAT(Error({"--process=", "d"}), HasSubstr("empty"));
  EXPECT_THAT(Error({"--no-such-flag", "d"}), HasSubstr("unknown option"));
}

TEST(ReportArguments, HelpNeedsNoPath) {
  ReportArguments arguments;
  EXPECT_TRUE(ParseReportArguments({"--help"}, arguments).ok());
  EXPECT_TRUE(arguments.help);
}

}  // namespace
}  // namespace ollamatrace
