#include "analyzer/report/diff_reports.h"

#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::SizeIs;

class Maker {
 public:
  explicit Maker(const std::string& root) : root_(root) {
    ReportProcess process;
    process.name = "server";
    report_.processes.push_back(process);
  }
  // Names innermost first; "+12" is a frame without one. Lines and offsets differ with each call.
  Maker& Group(uint64_t bytes, const std::vector<std::string>& names,
               const std::string& module = "libapp.so.1") {
    ReportGroup group;
    group.processes = {0};
    group.domain = "heap";
    group.verdict = "one-time";
    group.live_bytes = bytes;
    group.live_blocks = 1;
    for (const std::string& name : names) {
      ReportFrame frame;
      frame.module = root_ + module;
      frame.build_id = root_;
      frame.line = next_++;
      frame.offset = 1000 * root_.size() + next_;
      if (name[0] != '+') frame.function = name;
      group.frames.push_back(static_cast<uint32_t>(report_.frames.size()));
      report_.frames.push_back(frame);
    }
    report_.groups.push_back(std::move(group));
    return *this;
  }
  const Report& report() const { return report_; }

 private:
  std::string root_;
  uint32_t next_ = 1;
  Report report_;
};

TEST(DiffReports, SameFunctionsOfAnotherBuild) {
  const ReportDiff diff = DiffReports(
      Maker("/a/").Group(100, {"Copy(int)", "Handle", "main"}).report(),
      Maker("/other/").Group(250, {"Copy(int)", "Handle", "main"}, "libapp.so.2").report());
  ASSERT_THAT(diff.entries, SizeIs(1));
  const DiffEntry& entry = diff.entries[0];
  EXPECT_EQ(entry.match, DiffEntry::Match::kStack);
  EXPECT_EQ(entry.before.live_bytes, 100u);
  EXPECT_EQ(entry.after.live_bytes, 250u);
  EXPECT_EQ(entry.delta_bytes, 150);
  EXPECT_FALSE(entry.IsNew() || entry.IsGone());
}

TEST(DiffReports, StacksThatDifferInLinesAreOne) {
  const ReportDiff diff =
      DiffReports(Maker("/a/").Group(100, {"Copy", "main"}).Group(20, {"Copy", "main"}).report(),
                  Maker("/b/").Group(120, {"Copy", "main"}).report());
  ASSERT_THAT(diff.entries, SizeIs(1));
  EXPECT_EQ(diff.entries[0].delta_bytes, 0);
  EXPECT_EQ(diff.entries[0].before.live_blocks, 2u);
}

TEST(DiffReports, OtherwiseByTheBlamedFunctionAndTheMostAlikeCallers) {
  const ReportDiff diff =
      DiffReports(Maker("/a/")
                      .Group(10, {"Copy", "Handle", "Loop", "main"})
                      .Group(20, {"Copy", "Load", "main"})
                      .report(),
                  Maker("/b/")
                      .Group(1000, {"Copy", "Handle", "Dispatch", "Loop", "main"})
                      .Group(20, {"Copy", "Load", "Open", "main"})
                      .report());
  ASSERT_THAT(diff.entries, SizeIs(2));
  EXPECT_EQ(diff.entries[0].match, DiffEntry::Match::kFunction);
  EXPECT_EQ(diff.entries[0].delta_bytes, 990);
  EXPECT_EQ(diff.entries[1].delta_bytes, 0);
}

TEST(DiffReports, NewAndGoneTheMostGrowthFirst) {
  const ReportDiff diff =
      DiffReports(Maker("/a/").Group(500, {"Gone", "main"}).Group(10, {"Small", "main"}).report(),
                  Maker("/a/").Group(40, {"Small", "main"}).Group(300, {"New", "main"}).report());
  ASSERT_THAT(diff.entries, SizeIs(3));
  EXPECT_TRUE(diff.entries[0].IsNew());
  EXPECT_EQ(diff.entries[0].delta_bytes, 300);
  EXPECT_EQ(diff.entries[1].delta_bytes, 30);
  EXPECT_TRUE(diff.entries[2].IsGone());
  EXPECT_EQ(diff.entries[2].delta_bytes, -500);
  EXPECT_EQ(diff.frames[diff.entries[2].frames[0]].function, "Gone");
}

TEST(DiffReports, AddressesMeanNothingInAnotherBuild) {
  const auto nameless = [](const std::string& root) {
    return Maker(root).Group(10, {"+", "+"}).report();
  };
  EXPECT_THAT(DiffReports(nameless("/a/"), nameless("/a/")).entries, SizeIs(1));
  EXPECT_THAT(DiffReports(nameless("/a/"), nameless("/b/")).entries, SizeIs(2));
}

}  // namespace
}  // namespace ollamatrace
