#include "formats/segment_files.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/strip.h"
#include "formats/record_text.h"
#include "formats/test_journal.h"
#include "formats/test_trace.h"
#include "formats/trace_reader.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

TEST(ParseTraceFileName, TellsTheFilesOfAProcessApart) {
  const struct {
    const char* path;
    TraceFileKind kind;
    const char* base;
    uint32_t number;
  } kCases[] = {
      {"d/a.1.2.zst", TraceFileKind::kSegment, "d/a.1.2", 0},
      {"d/a.1.2.s1.zst", TraceFileKind::kSegment, "d/a.1.2", 1},
      {"d/a.1.2.s4294967295.zst", TraceFileKind::kSegment, "d/a.1.2", 4294967295},
      {"d/a.1.2.live30.zst", TraceFileKind::kCheckpoint, "d/a.1.2", 30},
      {"d/a.1.2.journal", TraceFileKind::kJournal, "d/a.1.2", 0},
      // No numbers of ours.
      {"d/a.1.2.s0.zst", TraceFileKind::kSegment, "d/a.1.2.s0", 0},
      {"d/a.1.2.s01.zst", TraceFileKind::kSegment, "d/a.1.2.s01", 0},
      {"d/a.1.2.s4294967296.zst", TraceFileKind::kSegment, "d/a.1.2.s4294967296", 0},
      {"d/a.1.2.live.zst", TraceFileKind::kSegment, "d/a.1.2.live", 0},
      {"d/a.1.2.live3.tmp", TraceFileKind::kOther, "d/a.1.2.live3.tmp", 0},
      {"d/a.1.2.log", TraceFileKind::kOther, "d/a.1.2.log", 0},
      {".s3.zst", TraceFileKind::kSegment, ".s3", 0},
      {"", TraceFileKind::kOther, "", 0},
  };
  for (const auto& expected : kCases) {
    const TraceFileName name = ParseTraceFileName(expected.path);
    EXPECT_EQ(name.kind, expected.kind) << expected.path;
    EXPECT_EQ(name.base, expected.base) << expected.path;
    EXPECT_EQ(name.number, expected.number) << expected.path;
  }
}

// A trace of a checkpoint and segments, each with a Loss record of its own time.
class SegmentsOfATrace : public ::testing::Test {
 protected:
  SegmentsOfATrace()
      : folder_(fs::path(testing::TempDir()) /
                testing::UnitTest::GetInstance()->current_test_info()->name()) {
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  ~SegmentsOfATrace() override { fs::remove_all(folder_); }

  std::string Path(const std::string& suffix) const { return folder_ / ("a.1.2" + suffix); }

  // How many bytes it has.
  uint64_t Write(const std::string& suffix, uint32_t segment, uint64_t time, bool followed = true) {
    TraceBuilder trace;
    HeaderRecord header;
    header.pid = kTestPid;
    header.segment = segment;
    header.segment_ns = 1000 + segment;
    trace.Add(header);
    trace.Add(LossRecord{time, LossKind::kOther, time});
    if (followed) trace.Add(EndRecord{time, EndKind::kSegment});
    trace.CloseChunk();
    std::ofstream(Path(suffix), std::ios::binary) << trace.bytes();
    return trace.bytes().size();
  }

  struct Reading {
    absl::Status status;
    ReadSummary summary;
    std::vector<std::string> losses;  // their times
    std::vector<std::string> headers;
  };
  Reading Read(const std::string& suffix) const {
    Reading reading;
    RecordText text([&](absl::string_view line) {
      if (absl::ConsumePrefix(&line, "loss t=")) {
        reading.losses.emplace_back(line.substr(0, line.find(' ')));
      } else if (absl::StartsWith(line, "header ")) {
        reading.headers.emplace_back(line);
      }
    });
    absl::StatusOr<ReadSummary> summary = ReadTrace(Path(suffix), text);
    reading.status = summary.status();
    if (summary.ok()) reading.summary = *std::move(summary);
    return reading;
  }

  fs::path folder_;
};

TEST_F(SegmentsOfATrace, AreReadAsOne) {
  Write(".live2.zst", 2, 12);
  Write(".s2.zst", 2, 22);
  Write(".s3.zst", 3, 23, /*followed=*/false);
  // Left behind, and of others.
  Write(".zst", 0, 20);
  Write(".s1.zst", 1, 21);
  Write(".live1.zst", 1, 11);
  std::ofstream(Path(".live3.tmp")) << "half of it";
  std::ofstream(Path("2.s2.zst")) << "of another process";
  for (const char* any : {".zst", ".s1.zst", ".s2.zst", ".s3.zst", ".live1.zst", ".live2.zst"}) {
    const Reading reading = Read(any);
    ASSERT_TRUE(reading.status.ok()) << reading.status;
    EXPECT_THAT(reading.losses, ElementsAre("12", "22", "23"));
    EXPECT_THAT(reading.headers, ElementsAre(HasSubstr("segment=2")));
    EXPECT_THAT(reading.headers[0], HasSubstr("segment_ns=1002"));
    EXPECT_THAT(reading.summary.notes, IsEmpty());
    EXPECT_THAT(reading.summary.files,
                ElementsAre(Path(".live2.zst"), Path(".s2.zst"), Path(".s3.zst")));
    EXPECT_FALSE(reading.summary.complete);
  }
}

TEST_F(SegmentsOfATrace, WithoutACheckpointAllCount) {
  Write(".zst", 0, 20);
  Write(".s1.zst", 1, 21);
  Write(".s10.zst", 10, 30);
  const Reading reading = Read(".zst");
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_THAT(reading.losses, ElementsAre("20", "21", "30"));
  EXPECT_THAT(reading.summary.notes, ElementsAre(HasSubstr("segments 2 to 9 are missing")));
}

TEST_F(SegmentsOfATrace, ACheckpointAlone) {
  Write(".live5.zst", 5, 15);
  const Reading reading = Read(".live5.zst");
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_THAT(reading.losses, ElementsAre("15"));
}

TEST_F(SegmentsOfATrace, TheJournalSaysWhatCounts) {
  const uint64_t bytes = [this] {
    Write(".live2.zst", 2, 12);
    Write(".live4.zst", 4, 14);  // whole, and does not count yet
    Write(".s1.zst", 1, 21);
    Write(".s2.zst", 2, 22);
    Write(".s3.zst", 3, 23);
    Write(".s5.zst", 5, 25);  // empty so far, but for what is not committed
    return Write(".s4.zst", 4, 24, /*followed=*/false);
  }();
  TestJournal journal(Path(".journal"));
  HeaderRecord header;
  header.pid = kTestPid;
  TraceBuilder identity;
  identity.Add(header);
  journal.SetIdentity(identity.records());
  journal.header().segment = 4;
  journal.header().first_segment = 2;
  journal.header().trace_end = bytes;
  for (const char* any : {".journal", ".s2.zst", ".live4.zst"}) {
    const Reading reading = Read(any);
    ASSERT_TRUE(reading.status.ok()) << reading.status;
    EXPECT_THAT(reading.losses, ElementsAre("12", "22", "23", "24"));
    EXPECT_THAT(reading.summary.notes, IsEmpty());
    EXPECT_TRUE(reading.summary.has_journal);
  }

  fs::remove(Path(".live2.zst"));
  fs::remove(Path(".s3.zst"));
  Reading reading = Read(".journal");
  EXPECT_THAT(reading.losses, ElementsAre("22", "24"));
  EXPECT_THAT(reading.summary.notes,
              ElementsAre(HasSubstr("checkpoint before segment 2 is missing"),
                          HasSubstr("segments 3 to 3 are missing")));
  fs::remove(Path(".s4.zst"));
  reading = Read(".journal");
  EXPECT_THAT(reading.losses, ElementsAre("22"));
  EXPECT_TRUE(reading.summary.truncated);

  // Numbers that cannot be.
  journal.header().first_segment = 9;
  reading = Read(".journal");
  ASSERT_TRUE(reading.status.ok()) << reading.status;
}

TEST_F(SegmentsOfATrace, ADamagedSegmentCostsItself) {
  Write(".live2.zst", 2, 12);
  std::ofstream(Path(".s2.zst")) << std::string(300, 'x');
  Write(".s3.zst", 3, 23, /*followed=*/false);
  const Reading reading = Read(".s3.zst");
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_THAT(reading.losses, ElementsAre("12", "23"));
  EXPECT_EQ(reading.summary.dropped_bytes, 300u);
}

}  // namespace
}  // namespace ollamatrace
