#include "analyzer/diagnose/verdict.h"

#include <algorithm>
#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_join.h"
#include "analyzer/replay/replay.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr uint64_t kStart = 1'000'000'000'000;
constexpr uint32_t kStack = 1;
constexpr uint32_t kOther = 2;  // somebody else's, whom no test asks about

uint64_t At(double seconds) { return kStart + static_cast<uint64_t>(seconds * 1e9); }

// The life of one stack's blocks in a process that answers requests evenly.
class Story {
 public:
  // `dropped`: until when the trace has dropped what came and went.
  explicit Story(size_t requests, double seconds = 60, double dropped = 0) : seconds_(seconds) {
    for (size_t i = 0; i < requests; ++i) times_.push_back(seconds * (i + 1.0) / (requests + 1.0));
    ReplayOptions options;
    for (const double time : times_) {
      options.request_times.push_back(At(time));
      session_.marks.push_back({At(time), std::string(kRequestMark), "", 7});
    }
    session_.start_ns = kStart;
    session_.requests = requests;
    replay_.emplace(std::move(options));
    HeaderRecord header;
    header.pid = 1;
    header.start_ns = kStart;
    if (dropped != 0) {
      header.segment = 1;
      header.segment_ns = At(dropped);
    }
    replay_->OnHeader(header);
    // The process is busy from its beginning to its end.
    Alloc(0.001, 1, kOther);
    Alloc(seconds - 0.001, 1, kOther);
  }

  size_t requests() const { return times_.size(); }
  // Just before the request is answered.
  double In(size_t request) const { return times_[request] - 1e-4; }
  double seconds() const { return seconds_; }

  uint64_t Alloc(double time, uint64_t size, uint32_t stack = kStack) {
    next_ += 1 << 20;
    replay_->OnAlloc({At(time), ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{stack},
                      next_, size});
    return next_;
  }
  void Free(double time, uint64_t block) {
    replay_->OnFree({At(time), ThreadId{1}, Domain::kHeap, block});
  }
  // What the default mode leaves of blocks that died young.
  void Folded(uint64_t pairs, uint64_t size, double lifetime, double first, double last,
              uint64_t peak = 0) {
    replay_->OnCounters({StackId{kStack}, Domain::kHeap, pairs, pairs * size,
                         static_cast<uint64_t>(lifetime * 1e9) * pairs, std::max(size, peak),
                         At(first), At(last)});
  }
  void Phase(double time, const std::string& name) {
    session_.marks.push_back({At(time), std::string(kPhaseMark), name, 0});
    std::stable_sort(session_.marks.begin(), session_.marks.end(),
                     [](const Mark& a, const Mark& b) { return a.time_ns < b.time_ns; });
  }

  Diagnosis Tell(ProcessEnd end = ProcessEnd::kExited, const StackNames& names = {},
                 bool counts_as_memory = true) {
    if (end == ProcessEnd::kExited) replay_->OnEnd({At(seconds_), EndKind::kExited});
    ReadSummary summary;
    summary.complete = true;
    session_.processes.push_back(replay_->Finish(summary));
    const ProcessHistory& process = session_.processes.back();
    for (const auto& [key, stats] : process.stacks) {
      if (key.stack != StackId{kStack}) continue;
      GroupHistory history =
          MakeGroupHistory(session_, process, std::vector<const StackStats*>{&stats});
      history.counts_as_memory = counts_as_memory;
      const std::vector<Unload> unloads = UnloadsOf(PhasesOf(session_));
      const auto stack = [&] { return names; };
      const Diagnosis all = Diagnose(history, stack, unloads);
      // Without its words it is the same.
      const Diagnosis figures = Diagnose(history, stack, unloads, Detail::kFigures);
      EXPECT_EQ(figures.verdict, all.verdict);
      EXPECT_EQ(figures.confidence, all.confidence);
      EXPECT_EQ(figures.growth_bytes, all.growth_bytes);
      EXPECT_EQ(figures.warm_seconds, all.warm_seconds);
      EXPECT_THAT(figures.evidence, testing::IsEmpty());
      return all;
    }
    ADD_FAILURE() << "no such stack";
    return {};
  }

 private:
  double seconds_;
  std::vector<double> times_;
  SessionHistory session_;
  std::optional<Replay> replay_;
  uint64_t next_ = 0;
};

StackNames Named(std::vector<std::string> functions) {
  StackNames names;
  names.modules.assign(functions.size(), "/opt/server");
  names.functions = std::move(functions);
  return names;
}

std::string Told(const Diagnosis& diagnosis) {
  return std::string(VerdictName(diagnosis.verdict)) + ": " +
         absl::StrJoin(diagnosis.evidence, "; ");
}

#define EXPECT_VERDICT(told, expected)                                     \
  do {                                                                     \
    const Diagnosis& as_told = (told);                                     \
    EXPECT_STREQ(VerdictName(as_told.verdict), expected) << Told(as_told); \
  } while (false)

TEST(Verdict, SteadyLeak) {
  Story story(200);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 1000);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "leak");
  EXPECT_GT(diagnosis.confidence, 0.8);
  ASSERT_TRUE(diagnosis.per_request.has_value());
  EXPECT_NEAR(diagnosis.per_request->value, 1000, 1);
  ASSERT_TRUE(diagnosis.per_token.has_value());
  EXPECT_NEAR(diagnosis.per_token->value, 1000.0 / 7, 1);
  ASSERT_TRUE(diagnosis.per_hour.has_value());
  EXPECT_NEAR(diagnosis.per_hour->value, 200 * 1000 * 60, 0.05 * 200 * 1000 * 60);
  EXPECT_THAT(diagnosis.advice, HasSubstr("free that is missing"));
}

TEST(Verdict, LeakOfAKilledProcess) {
  Story story(200);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 1000);
  EXPECT_VERDICT(story.Tell(ProcessEnd::kKilled), "leak");
}

TEST(Verdict, LeakInOneOfManyRequests) {
  Story story(1000);
  for (size_t i = 0; i < story.requests(); i += 100) story.Alloc(story.In(i), 50'000);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "leak");
  EXPECT_NEAR(diagnosis.per_request->value, 500, 25);
  EXPECT_LT(diagnosis.per_request->low, 500);
  EXPECT_GT(diagnosis.per_request->high, 500);
}

TEST(Verdict, LeakAmongHeavyTraffic) {
  Story story(400);
  std::deque<std::pair<size_t, uint64_t>> passing;
  for (size_t i = 0; i < story.requests(); ++i) {
    if (i % 4 == 0) story.Alloc(story.In(i), 100);
    passing.push_back({i, story.Alloc(story.In(i), 100)});
    if (passing.size() > 3) {
      story.Free(story.In(i), passing.front().second);
      passing.pop_front();
    }
  }
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "leak");
  EXPECT_NEAR(diagnosis.per_request->value, 25, 1.5);
}

TEST(Verdict, LeakBehindAWarmUp) {
  Story story(200);
  for (int i = 0; i < 400; ++i) story.Alloc(0.01 + i * 0.001, 1000);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 1000);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "leak");
  EXPECT_NEAR(diagnosis.per_request->value, 1000, 20);
}

TEST(Verdict, LeakOverTimeWithoutRequests) {
  Story story(0, 7200);
  for (int i = 0; i < 300; ++i) story.Alloc(10 + i * 23.9, 4096);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "leak");
  EXPECT_FALSE(diagnosis.per_request.has_value());
  EXPECT_NEAR(diagnosis.per_hour->value, 3600 / 23.9 * 4096, 0.05 * 3600 / 23.9 * 4096);
}

TEST(Verdict, ContainerThatIsNeverEmptied) {
  Story story(200);
  uint64_t block = 0;
  for (size_t i = 0; i < story.requests(); ++i) {
    const uint64_t larger = story.Alloc(story.In(i), 4096 * (i + 1));
    if (block != 0) story.Free(story.In(i), block);
    block = larger;
  }
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "growth-per-request");
  EXPECT_NEAR(diagnosis.per_request->value, 4096, 100);
}

TEST(Verdict, ContainerThatIsNeverEmptiedUnseen) {
  // 199 copies of growing size, each freed at once: only the last is in the trace.
  Story story(200);
  story.Folded(199, 4096 * 100, 0.01, story.In(0), story.In(198), 4096 * 200);
  story.Alloc(story.In(199), 4096 * 200);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "growth-per-request");
  EXPECT_NEAR(diagnosis.per_request->value, 4096, 200);
}

TEST(Verdict, ContainerThatReachedItsSizeUnseen) {
  // The same, but nothing was allocated in the last half.
  Story story(200);
  story.Folded(99, 4096 * 50, 0.01, story.In(0), story.In(98), 4096 * 100);
  story.Alloc(story.In(99), 4096 * 100);
  EXPECT_VERDICT(story.Tell(), "high-water");
}

TEST(Verdict, ScratchOfManySizes) {
  // The same, but once there was a larger one.
  Story story(200);
  story.Folded(199, 4096 * 100, 0.01, story.In(0), story.In(198), 4096 * 240);
  story.Alloc(story.In(199), 4096 * 200);
  EXPECT_VERDICT(story.Tell(), "cache");
}

TEST(Verdict, TableThatIsLookedUpAgain) {
  // What is there already is allocated, found and freed: recorded, as in mode full. No cache: what
  // stayed is old.
  Story story(500);
  for (size_t i = 0; i < 500; ++i) {
    const uint64_t block = story.Alloc(story.In(i), 56);
    if (i >= 90) story.Free(story.In(i) + 1e-5, block);
  }
  EXPECT_VERDICT(story.Tell(), "high-water");
}

TEST(Verdict, FullCacheWhoseFreesAreRecorded) {
  Story story(300);
  std::deque<uint64_t> entries;
  for (size_t i = 0; i < story.requests(); ++i) {
    entries.push_back(story.Alloc(story.In(i), 2000));
    if (entries.size() <= 50) continue;
    story.Free(story.In(i), entries.front());
    entries.pop_front();
  }
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "cache");
  EXPECT_THAT(Told(diagnosis), HasSubstr("turns over"));
}

TEST(Verdict, FullCacheWhosePairsWereFolded) {
  Story story(300);
  story.Folded(250, 2000, 10, story.In(0), story.In(249));
  for (size_t i = 250; i < story.requests(); ++i) story.Alloc(story.In(i), 2000);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "cache");
  EXPECT_FALSE(diagnosis.per_request.has_value());
}

// What a checkpoint has of it are the blocks of its last 20 seconds: that is not how it grew.
TEST(Verdict, FullCacheOfWhichTheBeginningWasDropped) {
  for (const size_t requests : {size_t{0}, size_t{240}}) {
    Story story(requests, 60, /*dropped=*/50);
    std::deque<uint64_t> entries;
    for (int i = 120; i < 240; ++i) {
      entries.push_back(story.Alloc(i / 4.0 + 0.01, 1000));
      if (i < 200) continue;
      story.Free(i / 4.0 + 0.02, entries.front());
      entries.pop_front();
    }
    const Diagnosis diagnosis = story.Tell();
    EXPECT_EQ(diagnosis.growth_bytes, 0) << Told(diagnosis);
    EXPECT_NE(diagnosis.verdict, Verdict::kLeak) << Told(diagnosis);
    EXPECT_NE(diagnosis.verdict, Verdict::kGrowthPerRequest) << Told(diagnosis);
  }
}

TEST(Verdict, LeakOfWhichTheBeginningWasDropped) {
  Story story(400, 120, /*dropped=*/40);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 1000);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "leak");
  EXPECT_NEAR(diagnosis.per_request->value, 1000, 1);
}

TEST(Verdict, CacheThatFillsUp) {
  Story story(400);
  double missed = 0;
  for (size_t i = 0; i < story.requests(); ++i) {
    // Fewer and fewer requests bring something new.
    const double seen = 1 / (1 + static_cast<double>(i) / 30);
    missed += seen;
    for (; missed >= 1; missed -= 1) story.Alloc(story.In(i), 3000);
  }
  EXPECT_VERDICT(story.Tell(), "cache");
}

TEST(Verdict, CacheThatIsEmptiedNowAndThen) {
  Story story(300);
  std::vector<uint64_t> entries;
  for (size_t i = 0; i < story.requests(); ++i) {
    if (i % 70 == 69) {
      for (const uint64_t entry : entries) story.Free(story.In(i), entry);
      entries.clear();
    }
    entries.push_back(story.Alloc(story.In(i), 2000));
  }
  EXPECT_VERDICT(story.Tell(), "cache");
}

TEST(Verdict, GrowingCacheByItsName) {
  Story story(200);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 1000);
  const Diagnosis diagnosis =
      story.Tell(ProcessEnd::kExited, Named({"app::ResultCache::Insert", "main"}));
  EXPECT_VERDICT(diagnosis, "growth-per-request");
  EXPECT_THAT(Told(diagnosis), HasSubstr("app::ResultCache::Insert is named like one"));
}

TEST(Verdict, KnownCacheBelowItsCap) {
  Story story(200);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 100'000);
  const Diagnosis diagnosis = story.Tell(
      ProcessEnd::kExited,
      Named({"server_prompt_cache::alloc(server_prompt const&)", "server_slot::prompt_save"}));
  EXPECT_VERDICT(diagnosis, "cache");
  EXPECT_EQ(diagnosis.site, "the prompt cache of llama-server");
  EXPECT_THAT(diagnosis.advice, HasSubstr("LLAMA_ARG_CACHE_RAM=0"));
}

// Entries of a ring grow to the longest line: of 512 requests each finds another one short.
TEST(Verdict, LogOfLlamaCppIsBounded) {
  Story story(200);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 500);
  const Diagnosis diagnosis =
      story.Tell(ProcessEnd::kExited,
                 Named({"common_log::add(ggml_log_level, char const*, __va_list_tag*)",
                        "common_log_add(common_log*, ggml_log_level, char const*, ...)"}));
  EXPECT_VERDICT(diagnosis, "cache");
  EXPECT_THAT(diagnosis.advice, HasSubstr("LLAMA_ARG_LOG_VERBOSITY"));
}

TEST(Verdict, GoHeapIsNeverALeak) {
  Story story(200);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 100'000);
  const Diagnosis diagnosis = story.Tell(
      ProcessEnd::kExited, Named({"runtime.sysAllocOS", "runtime.(*mheap).sysAlloc", "main"}));
  EXPECT_VERDICT(diagnosis, "growth-per-request");
  EXPECT_THAT(diagnosis.advice, HasSubstr("GOMEMLIMIT"));
}

TEST(Verdict, AllocatedOnce) {
  Story story(200);
  story.Alloc(1, 1 << 20);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "one-time");
  EXPECT_GT(diagnosis.confidence, 0.6);
  EXPECT_THAT(diagnosis.advice, IsEmpty());
}

TEST(Verdict, WhatAKilledProcessHeld) {
  Story story(200);
  story.Alloc(1, 1 << 20);
  EXPECT_VERDICT(story.Tell(ProcessEnd::kKilled), "live-at-kill");
}

TEST(Verdict, TableBuiltWhenItIsUsed) {
  Story story(400);
  for (size_t i = 0; i < 60; ++i) story.Alloc(story.In(i), 64);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "one-time");
  EXPECT_THAT(Told(diagnosis), HasSubstr("a table that is filled when it is used"));
}

TEST(Verdict, VectorThatGrewToWhatWasNeeded) {
  Story story(400);
  uint64_t block = 0;
  for (size_t i = 0; i < 128; i = i == 0 ? 1 : 2 * i) {
    const uint64_t larger = story.Alloc(story.In(i), 8192 * (i + 1));
    if (block != 0) story.Free(story.In(i), block);
    block = larger;
  }
  EXPECT_VERDICT(story.Tell(), "high-water");
}

TEST(Verdict, PoolThatKeepsItsPeak) {
  Story story(400);
  for (size_t i = 0; i < 120; i += 10) story.Alloc(story.In(i), 64 << 10);
  EXPECT_VERDICT(story.Tell(), "high-water");
}

TEST(Verdict, RetainedAfterUnload) {
  Story story(0, 90);
  for (int cycle = 0; cycle < 3; ++cycle) {
    const double begin = 1 + cycle * 30;
    story.Phase(begin, cycle == 0 ? "load" : "reload");
    std::vector<uint64_t> model;
    for (int i = 0; i < 10; ++i) model.push_back(story.Alloc(begin + 1 + i * 0.1, 100'000));
    story.Phase(begin + 10, "idle");
    story.Phase(begin + 20, "unload");
    for (size_t i = 2; i < model.size(); ++i) story.Free(begin + 21, model[i]);
    story.Phase(begin + 25, "end");
  }
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "retained-after-unload");
  EXPECT_THAT(Told(diagnosis), HasSubstr("each load left more behind"));
}

TEST(Verdict, CacheThatTurnsOverBehindTheUnload) {
  Story story(0, 90);
  story.Phase(2, "load");
  story.Phase(40, "unload");
  story.Phase(60, "end");
  std::deque<uint64_t> entries;
  for (int i = 0; i < 200; ++i) {
    const double time = 3 + i * 0.42;
    entries.push_back(story.Alloc(time, 20'000));
    if (entries.size() <= 8) continue;
    story.Free(time, entries.front());
    entries.pop_front();
  }
  EXPECT_VERDICT(story.Tell(), "cache");
}

TEST(Verdict, NothingRetained) {
  Story story(0, 60);
  story.Phase(1, "load");
  std::vector<uint64_t> model;
  for (int i = 0; i < 10; ++i) model.push_back(story.Alloc(2 + i * 0.1, 100'000));
  story.Phase(20, "unload");
  for (size_t i = 1; i < model.size(); ++i) story.Free(21, model[i]);
  story.Phase(30, "end");
  story.Free(25, model[0]);
  story.Alloc(40, 16);  // somebody uses the same stack for something small
  EXPECT_THAT(VerdictName(story.Tell().verdict), Not(HasSubstr("retained")));
}

TEST(Verdict, TooShortToTell) {
  Story story(5, 2);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 1000);
  const Diagnosis diagnosis = story.Tell();
  EXPECT_VERDICT(diagnosis, "live");
  EXPECT_LT(diagnosis.confidence, 0.5);
  EXPECT_THAT(Told(diagnosis), HasSubstr("too short to tell"));
}

TEST(Verdict, WhatIsNoMemory) {
  Story story(200);
  for (size_t i = 0; i < story.requests(); ++i) story.Alloc(story.In(i), 1000);
  EXPECT_VERDICT(story.Tell(ProcessEnd::kExited, {}, false), "live");
}

}  // namespace
}  // namespace ollamatrace
