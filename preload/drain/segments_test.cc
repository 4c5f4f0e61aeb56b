#include "preload/drain/segments.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <filesystem>
#include <numeric>
#include <random>

#include "preload/drain/drain_fixture.h"

namespace ollamatrace {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kActions = 40'000;
#else
constexpr int kActions = 300'000;
#endif

std::string Base(const Process& process) {
  return process.trace_path.substr(0, process.trace_path.size() - 4);
}

// Of all files of the trace, what is being made included.
uint64_t BytesOnDisk(const Process& process) {
  namespace fs = std::filesystem;
  uint64_t bytes = 0;
  const fs::path base = Base(process);
  for (const auto& entry : fs::directory_iterator(base.parent_path())) {
    const std::string name = entry.path().filename().native();
    if (name.rfind(base.filename().native() + ".", 0) == 0 &&
        entry.path().extension() != ".journal") {
      bytes += fs::file_size(entry.path());
    }
  }
  return bytes;
}

ProcessOptions Limited(Mode mode = Mode::kSurvivors) {
  ProcessOptions options;
  options.mode = mode;
  options.max_bytes = kMinTraceBytes;
  if (mode == Mode::kSample) options.sample_bytes = 300;
  options.pool_capacity = 200;  // what is older is written
  return options;
}

// A random program, and what it leaves.
class Program {
 public:
  Program(Process* process, uint32_t seed) : process_(process), random_(seed) {
    for (uint32_t i = 0; i < 3; ++i) {
      threads_.push_back(std::make_unique<Producer>(process, i, i + 1));
    }
    for (int i = 0; i < 50; ++i) stacks_.push_back(process->Stack(8));
  }

  // At one of `places` addresses.
  void Act(uint32_t places) {
    Producer& thread = *threads_[random_() % threads_.size()];
    const uint32_t stack = stacks_[random_() % stacks_.size()];
    const uint64_t address = 0x10000 + uint64_t{random_() % places} * 0x90;
    const uint64_t mapping = 0x7000000000 + uint64_t{random_() % 40} * 0x4000;
    const auto live = live_.find(address);
    if (random_() % 50 == 0) {
      if (random_() % 2 == 0) {
        thread.Map(mapping, 0x4000, stack, mapped_.count(mapping) != 0 ? 3 | kMapFixed : 3);
        mapped_[mapping] = stack;
      } else {
        thread.Unmap(mapping, 0x4000);
        mapped_.erase(mapping);
      }
    } else if (live == live_.end()) {
      const uint64_t size = random_() % 5000;
      thread.Alloc(address, size, stack);
      live_[address] = {size, stack};
      ++allocs_;
      bytes_ += size;
    } else {
      thread.Free(address);
      live_.erase(live);
    }
    if (random_() % 1000 == 0) DrainSample(process_->drain, SampleRecord());
    if (random_() % 2000 == 0) DrainFlush(process_->drain);
  }

  void Check(const Replay& replay) const {
    EXPECT_EQ(replay.unknown_frees, 0u);
    EXPECT_EQ(replay.allocs_over_live, 0u);
    ASSERT_EQ(replay.live.size(), live_.size());
    for (const auto& [address, block] : live_) {
      const auto found = replay.live.find({0, address});
      ASSERT_NE(found, replay.live.end());
      ASSERT_EQ(found->second.size, block.first);
      ASSERT_EQ(found->second.stack, block.second);
    }
    EXPECT_EQ(replay.allocs + replay.Pairs(Domain::kHeap), allocs_);
    EXPECT_EQ(replay.alloc_bytes + replay.PairBytes(Domain::kHeap), bytes_);
    ASSERT_EQ(replay.pages.size(), mapped_.size() * 4);
    for (const auto& [address, stack] : mapped_) {
      ASSERT_EQ(replay.pages.at(address / 4096), stack);
    }
  }

 private:
  Process* process_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<Producer>> threads_;
  std::vector<uint32_t> stacks_;
  std::map<uint64_t, std::pair<uint64_t, uint32_t>> live_;  // size, stack
  std::map<uint64_t, uint32_t> mapped_;
  uint64_t allocs_ = 0, bytes_ = 0;
};

class SegmentsTest : public testing::TestWithParam<Mode> {};

TEST_P(SegmentsTest, WhatIsLiveIsExactAndTheFilesStaySmall) {
  Process process(Limited(GetParam()));
  process.journal.header()->pid = 4711;  // an owner that is gone
  process.journal.header()->process_start = 1;
  Program program(&process, 7);
  uint64_t most = 0;
  for (int i = 0; i < kActions; ++i) {
    program.Act(3000);
    if (i % 512 != 0) continue;
    process.DrainAll();
    StepCheckpoint(process.drain);
    most = std::max(most, BytesOnDisk(process));
    if (i % (kActions / 8) < 512) {
      Replay replay;
      process.Read(&replay);  // with its journal, as after a kill
      program.Check(replay);
    }
  }
  EXPECT_LE(most, kMinTraceBytes);
  EXPECT_GT(most, kMinTraceBytes / 4);
  EXPECT_GT(process.drain->segments.checkpoint.number, 5u);
  Replay replay;
  process.FinishAndRead(&replay);
  program.Check(replay);
  EXPECT_EQ(replay.segment, process.drain->segments.checkpoint.number);
  EXPECT_THAT(replay.messages, IsEmpty());
  EXPECT_LE(BytesOnDisk(process), kMinTraceBytes);
}

// A table that is too small for the addresses: several passes over the segments, the same result.
TEST_P(SegmentsTest, FewAddressesAtATime) {
  Process process(Limited(GetParam()));
  process.drain->segments.plan.max_touched = 150;
  Program program(&process, 8);
  for (int i = 0; i < kActions / 3; ++i) {
    program.Act(2000);
    if (i % 512 == 0) process.DrainAll();
  }
  EXPECT_GT(process.drain->segments.checkpoint.number, 1u);
  Replay replay;
  process.FinishAndRead(&replay);
  program.Check(replay);
}

INSTANTIATE_TEST_SUITE_P(Modes, SegmentsTest,
                         testing::Values(Mode::kSurvivors, Mode::kFull, Mode::kSample));

// Recording goes on, nothing that is live is lost, and it is said once.
TEST(SegmentsTest, ALimitThatIsTooSmallForWhatIsLiveIsRaised) {
  for (const Mode mode : {Mode::kSurvivors, Mode::kFull}) {
    Process process(Limited(mode));
    Program program(&process, 9);
    constexpr uint32_t kPlaces = 200'000;
    for (int i = 0; i < 400'000; ++i) {
      program.Act(kPlaces);
      if (i % 512 == 0) process.DrainAll();
    }
    const Segments& segments = process.drain->segments;
    EXPECT_GT(segments.max_bytes, kMinTraceBytes);
    EXPECT_GT(segments.checkpoint.bytes, kMinTraceBytes / 4);
    EXPECT_LE(BytesOnDisk(process), segments.max_bytes);
    EXPECT_LE(segments.max_bytes, 8 * segments.checkpoint.bytes);
    Replay replay;
    process.FinishAndRead(&replay);
    program.Check(replay);
    EXPECT_THAT(replay.messages,
                ElementsAre(AllOf(HasSubstr("OLLAMATRACE_MAX_BYTES=262144 is too small"),
                                  HasSubstr("the limit is doubled"))));
  }
}

// Blocks by the time of their allocation take less than by their addresses: a checkpoint may be
// larger than the segments that it stands in for. Its room is kept free.
TEST(SegmentsTest, ACheckpointThatIsLargerThanItsSegments) {
  for (const Mode mode : {Mode::kSurvivors, Mode::kFull}) {
    ProcessOptions options = Limited(mode);
    options.max_bytes = 4 << 20;
    Process process(options);
    process.drain->segments.plan.max_touched = 10'000;  // several passes: in no order
    Producer thread(&process, 0, 1);
    const uint32_t stack = process.Stack();
    constexpr uint64_t kLive = 75'000;
    std::vector<uint64_t> places(2 * kLive);
    std::iota(places.begin(), places.end(), 0x10000);
    std::shuffle(places.begin(), places.end(), std::mt19937(13));
    const auto address = [&](uint64_t block) { return 32 * places[block % places.size()]; };
    uint64_t most = 0;
    for (uint64_t i = 0; i < 1'000'000; ++i) {
      thread.Alloc(address(i), 64, stack);
      if (i >= kLive) thread.Free(address(i - kLive));
      if (i % 512 != 0) continue;
      process.DrainAll();
      if (i % 8192 == 0) most = std::max(most, BytesOnDisk(process));
    }
    EXPECT_GT(process.drain->segments.checkpoint.number, 2u);
    EXPECT_LE(most, options.max_bytes);
    Replay replay;
    process.FinishAndRead(&replay);
    EXPECT_EQ(replay.live.size(), kLive);
    EXPECT_THAT(replay.messages, IsEmpty());
  }
}

// No checkpoint can be written for a while: that is no reason to stop before the limit.
TEST(SegmentsTest, AFullDiskWhileACheckpointIsMade) {
  Process process(Limited());
  Program program(&process, 10);
  const auto act = [&](int times) {
    for (int i = 0; i < times; ++i) {
      program.Act(3000);
      if (i % 64 == 0) process.DrainAll();
    }
  };
  act(2000);
  const uint64_t end = process.drain->segments.segment_bytes + 1;
  ASSERT_LT(process.drain->staging.trace_end(), end);
  while (process.drain->segments.making == nullptr) act(64);
  // One or another: how long they take depends on the clock.
  const uint32_t last = process.drain->segments.checkpoint.number;
  rlimit before = {};
  getrlimit(RLIMIT_FSIZE, &before);
  // The journal's sections below are reserved already.
  const rlimit small = {100, before.rlim_max};
  setrlimit(RLIMIT_FSIZE, &small);
  for (int i = 0; i < 1000 && process.drain->segments.making != nullptr; ++i) {
    process.drain->segments.due_ns = 0;
    StepCheckpoint(process.drain);
  }
  setrlimit(RLIMIT_FSIZE, &before);
  EXPECT_EQ(process.drain->segments.making, nullptr);
  EXPECT_EQ(process.drain->segments.checkpoint.number, last);
  act(100'000);
  EXPECT_GT(process.drain->segments.checkpoint.number, last + 2);
  Replay replay;
  process.FinishAndRead(&replay);
  program.Check(replay);
  EXPECT_THAT(replay.messages, Contains(HasSubstr("cannot be dropped (error 27)")));
}

// Somebody deleted a segment: nothing can take its place. What there is stays, the limit holds.
TEST(SegmentsTest, ASegmentThatIsGoneEndsTheRecordingAtTheLimit) {
  Process process(Limited());
  Program program(&process, 11);
  const auto act = [&] {
    program.Act(3000);
    process.DrainAll();
  };
  while (process.drain->segments.closed_count < 2) act();
  ASSERT_EQ(process.drain->segments.checkpoint.number, 0u);
  ASSERT_EQ(unlink((Base(process) + ".s1.zst").c_str()), 0);
  for (int i = 0; i < kActions && DrainFailure(process.drain) == 0; ++i) act();
  EXPECT_EQ(DrainFailure(process.drain), kTraceLimitReached);
  EXPECT_EQ(process.journal.header()->state.load(), static_cast<uint32_t>(JournalState::kStopped));
  EXPECT_LE(BytesOnDisk(process), kMinTraceBytes);
  Replay replay;
  const absl::StatusOr<ReadSummary> summary = ReadTrace(process.trace_path, replay);
  ASSERT_TRUE(summary.ok()) << summary.status();
  EXPECT_THAT(summary->notes, Contains(HasSubstr("segments 1 to 1 are missing")));
  EXPECT_THAT(replay.messages, Contains(HasSubstr("cannot be dropped (error 2)")));
}

// What is kept of the figures over time goes on where the dropped segments end.
TEST(SegmentsTest, SamplesAreKeptAndAddedUp) {
  ProcessOptions options = Limited(Mode::kFull);
  Process process(options);
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  std::vector<uint64_t> live_bytes;
  uint64_t live = 0;
  const auto address = [](uint64_t block) { return 0x100000 + 16 * (block * 7919 % 1'000'003); };
  const auto size = [](uint64_t block) { return block * block % 10'007; };
  for (uint64_t i = 0; i < 200'000; ++i) {
    thread.Alloc(address(i), size(i), stack);
    live += size(i);
    if (i >= 500) {
      thread.Free(address(i - 500));
      live -= size(i - 500);
    }
    if (i % 100 == 50) {
      thread.Map(0x7000000000 + i * 4096, 4096, stack);
      process.DrainAll();
      SampleRecord sample;
      sample.time_ns = MonotonicNs();
      sample.rss_anon = live_bytes.size();
      ASSERT_EQ(DrainSample(process.drain, sample), DrainStatus::kIdle);
      live_bytes.push_back(live);
    }
  }
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_GT(replay.segment, 3u);
  size_t kept = 0;
  for (const SampleRecord& sample : replay.samples) {
    if (sample.written_bytes == kUnknownGauge) continue;
    ++kept;
    ASSERT_LT(sample.rss_anon, live_bytes.size());
    EXPECT_EQ(sample.written_bytes, live_bytes[sample.rss_anon]);
    EXPECT_EQ(sample.mapped_bytes, (sample.rss_anon + 1) * 4096);
  }
  EXPECT_GT(kept, 100u);
}

// Messages, modules and threads that a live block names outlive their segments.
TEST(SegmentsTest, DefinitionsAreKept) {
  Process process(Limited());
  process.Define("the first message");
  Program program(&process, 12);
  for (int i = 0; i < 100'000; ++i) {
    program.Act(3000);
    if (i % 512 == 0) process.DrainAll();
  }
  EXPECT_GT(process.drain->segments.checkpoint.number, 2u);
  Replay replay;
  process.FinishAndRead(&replay);
  program.Check(replay);
  EXPECT_THAT(replay.messages, ElementsAre("the first message"));
}

}  // namespace
}  // namespace ollamatrace
