#include "analyzer/cli/load_history.h"

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "analyzer/cli/commands.h"
#include "formats/test_trace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kSecond = 1'000'000'000;

// A process that keeps 100 bytes from its first second, and 50 from its twentieth.
std::string TraceOf(uint32_t pid, uint64_t start, uint64_t process_start = 1,
                    const char* exe = "/bin/server") {
  TraceBuilder builder;
  HeaderRecord header;
  header.pid = pid;
  header.start_ns = start * kSecond;
  header.wall_ns = 1000 * kSecond + start * kSecond;
  header.process_start = process_start;
  header.exe = TextOf(exe);
  builder.Add(header);
  builder.Add(AllocRecord{(start + 1) * kSecond, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc,
                          StackId{}, 0x1000, 100});
  builder.CloseChunk();
  builder.Add(AllocRecord{(start + 20) * kSecond, ThreadId{2}, Domain::kHeap,
                          AllocFunction::kMalloc, StackId{}, 0x2000, 50});
  builder.Add(EndRecord{(start + 30) * kSecond, EndKind::kExited});
  builder.CloseChunk();
  return builder.bytes();
}

class LoadHistoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = fs::path(::testing::TempDir()) /
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::remove_all(folder_);
    fs::create_directories(folder_);
  }
  std::string Write(const std::string& name, const std::string& content) {
    const std::string path = (folder_ / name).string();
    std::ofstream(path, std::ios::binary) << content;
    return path;
  }
  LoadedSession Load(const LoadOptions& options = {}) {
    absl::StatusOr<LoadedSession> loaded = LoadHistory({folder_.string()}, options);
    EXPECT_TRUE(loaded.ok()) << loaded.status();
    return *std::move(loaded);
  }
  // Runs a command line; what it printed is in out_ and error_.
  int Run(std::vector<std::string> words) {
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    const int code = RunCommandLine(words);
    out_ = ::testing::internal::GetCapturedStdout();
    error_ = ::testing::internal::GetCapturedStderr();
    return code;
  }

  fs::path folder_;
  std::string out_, error_;
};

TEST_F(LoadHistoryTest, ASession) {
  Write("b.2.1.zst", TraceOf(2, 110));
  Write("a.1.1.zst", TraceOf(1, 100));
  Write("marks.jsonl",
        "{\"t\": 105000000000, \"mark\": \"request\"}\n{\"t\": 115000000000, \"mark\": "
        "\"request\"}\n");
  const LoadedSession loaded = Load();
  EXPECT_THAT(loaded.errors, IsEmpty());
  ASSERT_THAT(loaded.history.processes, SizeIs(2));
  EXPECT_EQ(loaded.history.start_ns, 100 * kSecond);
  EXPECT_EQ(loaded.history.wall_ns, 1100 * kSecond);
  EXPECT_EQ(loaded.history.requests, 2u);
  EXPECT_EQ(loaded.history.processes[0].requests, 2u);
  EXPECT_EQ(loaded.history.processes[1].requests, 1u);
  EXPECT_THAT(loaded.history.processes[0].path, HasSubstr("a.1.1.zst"));
  EXPECT_EQ(loaded.history.processes[0].end, ProcessEnd::kExited);
}

TEST_F(LoadHistoryTest, TheSameProcessInTwoPrograms) {
  Write("sh.7.1.zst", TraceOf(7, 100, 5, "/bin/sh"));
  Write("true.7.2.zst", TraceOf(7, 140, 5, "/bin/true"));
  const LoadedSession loaded = Load();
  EXPECT_EQ(loaded.history.processes[0].end, ProcessEnd::kExec);
  EXPECT_EQ(loaded.history.processes[1].end, ProcessEnd::kExited);
}

TEST_F(LoadHistoryTest, WindowsByTimeAndByMark) {
  Write("a.1.1.zst", TraceOf(1, 100));
  Write("marks.jsonl", "{\"t\": 110000000000, \"mark\": \"phase\", \"name\": \"load\"}\n");
  const auto live = [&](const char* since, const char* until) {
    const LoadedSession loaded = Load({.since = since, .until = until});
    uint64_t bytes = 0;
    for (const auto& [key, stats] : loaded.history.processes[0].stacks) bytes += stats.live_bytes;
    return bytes;
  };
  EXPECT_EQ(live("", ""), 150u);
  EXPECT_EQ(live("load", ""), 50u);
  EXPECT_EQ(live("", "load"), 100u);
  EXPECT_EQ(live("10s", "+15s"), 0u);
  EXPECT_EQ(live("1s", "20s"), 150u);
  EXPECT_TRUE(absl::IsInvalidArgument(LoadHistory({folder_.string()}, {.since = "idle"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      LoadHistory({folder_.string()}, {.since = "9s", .until = "3s"}).status()));
}

TEST_F(LoadHistoryTest, ThreadsOnDemand) {
  Write("a.1.1.zst", TraceOf(1, 100));
  EXPECT_THAT(Load().history.processes[0].stacks, SizeIs(1));
  EXPECT_THAT(Load({.by_thread = true}).history.processes[0].stacks, SizeIs(2));
}

TEST_F(LoadHistoryTest, UnreadableTracesBesideReadableOnesAreNotes) {
  Write("a.1.1.zst", TraceOf(1, 100));
  Write("b.2.1.zst", "garbage");
  const LoadedSession loaded = Load();
  EXPECT_THAT(loaded.errors, IsEmpty());
  EXPECT_THAT(loaded.history.processes, SizeIs(1));
  EXPECT_EQ(loaded.history.unreadable_traces, 1u);
  EXPECT_THAT(loaded.history.notes, ElementsAre(HasSubstr("left out: ")));
}

TEST_F(LoadHistoryTest, NoReadableTraceIsOneError) {
  Write("a.1.1.zst", "garbage");
  Write("b.2.1.zst", "");
  const LoadedSession loaded = Load();
  ASSERT_THAT(loaded.errors, SizeIs(1));
  EXPECT_THAT(std::string(loaded.errors[0].message()), HasSubstr("none of 2 traces can be read"));
}

TEST_F(LoadHistoryTest, ExitCodesAndOneLineErrors) {
  const std::string good = Write("a.1.1.zst", TraceOf(1, 100));
  const std::string bad = Write("bad.zst", "garbage");
  const auto one_line = [&] { return std::count(error_.begin(), error_.end(), '\n') == 1; };
  EXPECT_EQ(Run({good}), 0);
  EXPECT_EQ(error_, "");
  EXPECT_THAT(out_, HasSubstr("150 B in 2 blocks"));
  EXPECT_EQ(Run({"report", "--format=json", good}), 0);
  EXPECT_THAT(out_, HasSubstr("ollama-leakview/report/1"));
  EXPECT_EQ(Run({"leaks", good}), 0);
  EXPECT_EQ(Run({bad}), 3);
  EXPECT_TRUE(one_line()) << error_;
  EXPECT_THAT(error_, HasSubstr("bad.zst"));
  EXPECT_EQ(out_, "");
  // What is readable is reported all the same.
  EXPECT_EQ(Run({good, bad}), 3);
  EXPECT_TRUE(one_line()) << error_;
  EXPECT_THAT(out_, HasSubstr("150 B in 2 blocks"));
  EXPECT_EQ(Run({"no-verb-and-no-file\nin two lines"}), 3);
  EXPECT_TRUE(one_line()) << error_;
  for (const std::vector<std::string>& usage :
       std::vector<std::vector<std::string>>{{},
                                             {"report"},
                                             {"report", "--nope", good},
                                             {"report", "--since=idle", good},
                                             {"record"},
                                             {"record", "--mode=x", "ls"}}) {
    EXPECT_EQ(Run(usage), 2);
    EXPECT_TRUE(one_line()) << error_;
  }
  EXPECT_EQ(Run({"record", "--", "/no/such/program"}), 127);
  EXPECT_TRUE(one_line()) << error_;
  for (const std::vector<std::string>& help : std::vector<std::vector<std::string>>{
           {"--help"}, {"report", "--help"}, {"leaks", "-h"}, {"record", "--help"}}) {
    EXPECT_EQ(Run(help), 0);
    EXPECT_THAT(out_, HasSubstr("Example: "));
  }
  EXPECT_EQ(Run({"--version"}), 0);
  EXPECT_THAT(out_, HasSubstr("ollama-leakview 0."));
}

}  // namespace
}  // namespace ollamatrace
