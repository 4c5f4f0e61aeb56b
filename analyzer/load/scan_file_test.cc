#include "analyzer/load/scan_file.h"

#include <cstdio>
#include <fstream>
#include <string>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

ScanResult Example(uint64_t time_ns) {
  ScanResult result;
  result.time_ns = time_ns;
  result.pause_ns = 1'500'000;
  result.duration_ns = 90'000'000;
  result.scanned_bytes = 1 << 20;
  result.blocks_unknown = true;
  result.reachable = {7, 700};
  result.lost.definitely = {2, 48};
  result.lost.indirectly = {1, 16};
  result.lost.possibly = {3, 33};
  result.stacks[5].definitely = {2, 48};
  result.stacks[5].addresses = {0x1000, 0x7fffffff0010};
  result.stacks[9].indirectly = {1, 16};
  result.stacks[9].possibly = {3, 33};
  return result;
}

class ScanFileTest : public testing::Test {
 protected:
  void SetUp() override { std::remove(path_.c_str()); }
  void Append(const std::string& text) { std::ofstream(path_, std::ios::app) << text; }
  const std::string path_ = testing::TempDir() + "/one.scan";
};

TEST_F(ScanFileTest, ReadsWhatWasWritten) {
  ASSERT_TRUE(AppendScan(path_, Example(100)).ok());
  const std::optional<ScanResult> read = ReadLastScan(path_, 100);
  ASSERT_TRUE(read.has_value());
  EXPECT_EQ(read->time_ns, 100u);
  EXPECT_EQ(read->pause_ns, 1'500'000u);
  EXPECT_EQ(read->duration_ns, 90'000'000u);
  EXPECT_EQ(read->scanned_bytes, 1u << 20);
  EXPECT_TRUE(read->blocks_unknown);
  EXPECT_EQ(read->reachable.bytes, 700u);
  EXPECT_EQ(read->lost.possibly.blocks, 3u);
  ASSERT_EQ(read->stacks.size(), 2u);
  EXPECT_EQ(read->stacks.at(5).definitely.bytes, 48u);
  EXPECT_EQ(read->stacks.at(9).indirectly.blocks, 1u);
}

TEST_F(ScanFileTest, TheLastScanWithinTheWindowCounts) {
  for (const uint64_t time : {100, 300, 200}) ASSERT_TRUE(AppendScan(path_, Example(time)).ok());
  EXPECT_EQ(ReadLastScan(path_, ~uint64_t{0})->time_ns, 300u);
  EXPECT_EQ(ReadLastScan(path_, 250)->time_ns, 200u);
  EXPECT_FALSE(ReadLastScan(path_, 99).has_value());
}

TEST_F(ScanFileTest, SkipsWhatIsNoScan) {
  ASSERT_TRUE(AppendScan(path_, Example(100)).ok());
  Append("not json\n[1]\n{\"t\": 500}\n{\"t\": -1}\n\xff\xfe\n");
  // Cut in the middle, as by a full disk; the next scan's line follows on its own.
  Append("{\"t\":400,\"pause_ns\":1\n");
  EXPECT_EQ(ReadLastScan(path_, ~uint64_t{0})->time_ns, 100u);
  ASSERT_TRUE(AppendScan(path_, Example(600)).ok());
  EXPECT_EQ(ReadLastScan(path_, ~uint64_t{0})->time_ns, 600u);
}

TEST_F(ScanFileTest, NoFileNoScan) { EXPECT_FALSE(ReadLastScan(path_, 1).has_value()); }

TEST(ScanPath, LiesBesideTheTrace) {
  EXPECT_EQ(ScanPath("/s/app.1.2.zst"), "/s/app.1.2.scan");
  EXPECT_EQ(ScanPath("/s/app.1.2.journal"), "/s/app.1.2.scan");
}

}  // namespace
}  // namespace ollamatrace
