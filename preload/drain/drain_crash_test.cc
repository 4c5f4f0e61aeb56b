// A SIGKILL at any instruction of the drain: after each store to the journal, what a reader makes
// of the trace and the journal is what the producers did, no more and no less.

#include <gmock/gmock.h>

#include <algorithm>
#include <functional>
#include <random>

#include "preload/drain/drain_fixture.h"

namespace ollamatrace {
namespace {

std::function<void()>* g_at_step = nullptr;
uint64_t g_steps = 0;

}  // namespace

// Called by the drain, which is built for this test with OLLAMATRACE_DRAIN_STEPS.
void DrainStep() {
  ++g_steps;
  if (g_at_step != nullptr) (*g_at_step)();
}

namespace {

#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
constexpr int kRounds = 6;
#else
constexpr int kRounds = 60;
#endif

struct CrashOptions {
  ProcessOptions process;
  uint32_t seed = 1;
  uint64_t segment_bytes = 0;  // not 0: they are this small and dropped all the time
};

class CrashTest : public testing::TestWithParam<CrashOptions> {
 protected:
  CrashTest() : process_(GetParam().process), random_(GetParam().seed) {
    // An owner that is gone.
    process_.journal.header()->pid = 4711;
    process_.journal.header()->process_start = 1;
    for (uint32_t i = 0; i < 3; ++i) {
      threads_.push_back(std::make_unique<Producer>(&process_, i, i + 1));
    }
    for (int i = 0; i < 8; ++i) stacks_.push_back(process_.Stack(3));
    if (GetParam().segment_bytes != 0) {
      Segments* const segments = &process_.drain->segments;
      segments->segment_bytes = GetParam().segment_bytes;
      segments->begin_bytes = 0;
      segments->plan.max_touched = 20;
    }
  }
  ~CrashTest() override { g_at_step = nullptr; }

  uint32_t AnyStack() { return stacks_[random_() % stacks_.size()]; }

  // What a producer does, and what it means.
  void Act() {
    Producer& thread = *threads_[random_() % threads_.size()];
    const uint64_t address = 0x1000 + random_() % 60 * 0x210;
    const uint64_t size = random_() % 1000;
    const uint32_t stack = AnyStack();
    const auto live = live_.find(address);
    const uint64_t mapping = 0x700000 + random_() % 8 * 0x4000;
    switch (random_() % 10) {
      case 0:
        thread.Map(mapping, 0x4000, stack, mapped_.count(mapping) != 0 ? 3 | kMapFixed : 3);
        mapped_[mapping] = stack;
        break;
      case 1:
        thread.Unmap(mapping, 0x4000);
        if (random_() % 3 == 0) {
          thread.UnmapFailed(mapping, 0x4000);
        } else {
          mapped_.erase(mapping);
        }
        break;
      case 2:
        messages_.push_back("message " + std::to_string(messages_.size()));
        process_.Define(messages_.back());
        stacks_.push_back(process_.Stack(2));
        break;
      default:
        if (live == live_.end()) {
          thread.Alloc(address, size, stack);
          Live(address, size, stack);
        } else if (random_() % 3 == 0) {
          Realloc(&thread, address, size, stack);
        } else {
          thread.Free(address);
          live_.erase(live);
        }
    }
  }

  void Realloc(Producer* thread, uint64_t address, uint64_t size, uint32_t stack) {
    thread->ReallocFree(address);
    const auto block = live_[address];
    live_.erase(address);
    // The drain may see the halves in two batches.
    if (random_() % 2 == 0) DrainHere();
    switch (random_() % 3) {
      case 0:
        thread->ReallocFailed(address);
        live_[address] = block;
        break;
      case 1:
        thread->ReallocFreed(address);
        break;
      default:
        thread->ReallocDone(address, size, stack);
        Live(address, size, stack);
    }
  }

  void Live(uint64_t address, uint64_t size, uint32_t stack) {
    live_[address] = {size, stack};
    ++allocs_;
    bytes_ += size;
    weights_ += WeightOf(size, GetParam().process.sample_bytes);
  }

  void DrainHere() {
    std::function<void()> check = [this] {
      if (!failed_) CheckNow();
    };
    g_at_step = &check;
    switch (random_() % 8) {
      case 0:
        DrainFlush(process_.drain);
        break;
      case 1:
        DrainSample(process_.drain, SampleRecord());
        break;
      case 2:
        // All blocks are old.
        process_.drain->hand_credit = 50;
        process_.drain->hand_ns = 0;
        [[fallthrough]];
      default:
        process_.journal.header()->scan_all.store(1);
        DrainBatch(process_.drain, random_() % 2 == 0);
    }
    g_at_step = nullptr;
  }

  void CheckNow() {
    ++checks_;
    Replay replay;
    failed_ = true;
    const absl::StatusOr<ReadSummary> summary = ReadTrace(process_.trace_path, replay);
    ASSERT_TRUE(summary.ok()) << summary.status();
    ASSERT_THAT(summary->notes, testing::IsEmpty());
    const bool finished =
        process_.journal.header()->state.load() == static_cast<uint32_t>(JournalState::kFinished);
    ASSERT_EQ(summary->has_journal, !finished);
    ASSERT_EQ(summary->damaged_chunks, 0u);
    ASSERT_EQ(replay.headers, 1u);
    ASSERT_EQ(replay.unknown_frees, 0u) << "step " << g_steps;
    ASSERT_EQ(replay.allocs_over_live, 0u) << "step " << g_steps;
    ASSERT_EQ(replay.undefined_stacks, 0u) << "step " << g_steps;
    ASSERT_EQ(replay.live.size(), live_.size()) << "step " << g_steps;
    for (const auto& [address, block] : live_) {
      const auto found = replay.live.find({0, address});
      ASSERT_NE(found, replay.live.end());
      ASSERT_EQ(found->second.size, block.first);
      ASSERT_EQ(found->second.stack, block.second);
    }
    ASSERT_EQ(replay.allocs + replay.Pairs(Domain::kHeap), allocs_) << "step " << g_steps;
    ASSERT_EQ(replay.alloc_bytes + replay.PairBytes(Domain::kHeap), bytes_);
    if (GetParam().process.mode == Mode::kSample) {
      ASSERT_TRUE(replay.AllWeights() == weights_) << "step " << g_steps;
    } else {
      ASSERT_THAT(replay.weights, testing::IsEmpty());
    }
    ASSERT_EQ(replay.pages.size(), mapped_.size() * 4);
    for (const auto& [address, stack] : mapped_) {
      ASSERT_EQ(replay.pages[address / 4096], stack) << "step " << g_steps;
    }
    ASSERT_EQ(replay.messages, messages_)
        << (replay.messages.empty() ? "" : replay.messages.back());
    failed_ = false;
  }

  Process process_;
  std::mt19937 random_;
  std::vector<std::unique_ptr<Producer>> threads_;
  std::vector<uint32_t> stacks_;
  std::map<uint64_t, std::pair<uint64_t, uint32_t>> live_;  // size, stack
  std::map<uint64_t, uint32_t> mapped_;
  std::vector<std::string> messages_;
  uint64_t allocs_ = 0, bytes_ = 0;
  Weights weights_;
  uint64_t checks_ = 0;
  bool failed_ = false;
};

TEST_P(CrashTest, NothingIsLostAtAnyStep) {
  for (int round = 0; round < kRounds && !failed_; ++round) {
    const int actions = 1 + static_cast<int>(random_() % 30);
    for (int i = 0; i < actions && !failed_; ++i) Act();
    if (random_() % 10 == 0) {
      const uint32_t ring = random_() % threads_.size();
      threads_[ring]->Detach();
      process_.journal.header()->scan_all.store(1);
      while (DrainBatch(process_.drain, true) == DrainStatus::kProgress) {
      }
      threads_[ring] = std::make_unique<Producer>(&process_, ring, 100 + round);
    }
    DrainHere();
  }
  std::function<void()> check = [this] {
    if (!failed_) CheckNow();
  };
  g_at_step = &check;
  ASSERT_EQ(DrainFinish(process_.drain, EndKind::kExited), DrainStatus::kIdle);
  g_at_step = nullptr;
  CheckNow();
  EXPECT_GT(checks_, 30u * kRounds);
  if (GetParam().segment_bytes != 0) {
    EXPECT_GT(process_.drain->segments.checkpoint.number, 2u);
  }
  CloseJournal(&process_.journal, true);
  Replay replay;
  process_.Read(&replay);
  EXPECT_EQ(replay.live.size(), live_.size());
}

std::vector<CrashOptions> Cases() {
  std::vector<CrashOptions> cases;
  for (uint32_t seed = 1; seed <= 3; ++seed) {
    CrashOptions plain;
    plain.seed = seed;
    cases.push_back(plain);
    CrashOptions full = plain;
    full.process.mode = Mode::kFull;
    cases.push_back(full);
    CrashOptions small = plain;
    small.process.pool_capacity = 20;
    small.process.max_counters = 4;
    cases.push_back(small);
    CrashOptions sample = plain;
    sample.process.mode = Mode::kSample;
    sample.process.sample_bytes = 300;
    cases.push_back(sample);
    sample.process.pool_capacity = 20;
    sample.process.max_counters = 5;  // the last slot is one without its weights
    cases.push_back(sample);
    if (seed == 3) continue;
    for (CrashOptions limited : {plain, full, small, sample}) {
      limited.process.max_bytes = kMinTraceBytes;
      limited.segment_bytes = 300;
      cases.push_back(limited);
    }
  }
  return cases;
}

void PrintTo(const CrashOptions& options, std::ostream* out) {
  *out << "mode " << static_cast<int>(options.process.mode) << ", pool of "
       << options.process.pool_capacity << ", seed " << options.seed << ", segments of "
       << options.segment_bytes;
}

INSTANTIATE_TEST_SUITE_P(All, CrashTest, testing::ValuesIn(Cases()));

}  // namespace
}  // namespace ollamatrace
