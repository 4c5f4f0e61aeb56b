// The estimates of mode sample against the truth, over many draws.
#include "analyzer/replay/sample_estimator.h"

#include <cmath>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/replay/replay.h"
#include "formats/sample_weight.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kSampleBytes = 10'000;

// A program's blocks: so many of each size, of each stack; every third is freed, half of these
// within the library.
struct Blocks {
  uint32_t stack;
  uint64_t size;
  int count;
};
const std::vector<Blocks> kProgram = {{1, 16, 30'000}, {1, 900, 200},    {2, 5'000, 200},
                                      {2, 12'000, 60}, {3, 200'000, 10}, {3, 0, 5'000}};

struct Figures {
  double live_bytes = 0, live_blocks = 0, allocations = 0, frees = 0;
};

Figures TruthOf(uint32_t stack) {  // 0: all
  Figures truth;
  for (const Blocks& blocks : kProgram) {
    if (stack != 0 && blocks.stack != stack) continue;
    const int freed = blocks.count / 3;
    truth.live_bytes += static_cast<double>(blocks.size) * (blocks.count - freed);
    truth.live_blocks += blocks.count - freed;
    truth.allocations += blocks.count;
    truth.frees += freed;
  }
  return truth;
}

// What the library would record in one run.
ProcessHistory RunOnce(std::mt19937_64& random) {
  Replay replay({});
  HeaderRecord header;
  header.mode = Mode::kSample;
  header.sample_bytes = kSampleBytes;
  header.start_ns = 1;
  replay.OnHeader(header);
  std::map<uint32_t, CountersRecord> counters;
  std::map<uint32_t, WeightsRecord> weights;
  uint64_t address = 0x1000;
  for (const Blocks& blocks : kProgram) {
    const double chance = SampleChance(blocks.size, kSampleBytes);
    std::uniform_real_distribution<double> uniform(0, 1);
    for (int i = 0; i < blocks.count; ++i) {
      if (uniform(random) >= chance) continue;
      const bool freed = i < blocks.count / 3;
      if (freed && i % 2 == 0) {
        CountersRecord& folded = counters[blocks.stack];
        folded.stack = StackId{blocks.stack};
        ++folded.pairs;
        folded.bytes += blocks.size;
        folded.first_ns = folded.last_ns = 5;
        const SampleWeight weight = WeightOf(blocks.size, kSampleBytes);
        WeightsRecord& sum = weights[blocks.stack];
        sum.stack = StackId{blocks.stack};
        sum.blocks += weight.blocks;
        sum.bytes += weight.bytes;
        sum.blocks_variance += weight.blocks_variance;
        sum.bytes_variance += weight.bytes_variance;
        continue;
      }
      address += 0x1000;
      replay.OnAlloc({5, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{blocks.stack},
                      address, blocks.size});
      if (freed) replay.OnFree({6, ThreadId{1}, Domain::kHeap, address});
    }
  }
  for (const auto& [stack, record] : counters) {
    replay.OnCounters(record);
    replay.OnWeights(weights[stack]);
  }
  replay.OnEnd({10, EndKind::kExited});
  return replay.Finish({});
}

// Of one figure: how far off the estimates were, and what they said of it.
struct Errors {
  double truth = 0;
  int runs = 0;
  double sum = 0, squares = 0;  // of (estimate - truth)
  double variances = 0;         // as estimated
  int within_one = 0, within_two = 0;

  void Add(uint64_t estimate, double variance) {
    const double error = static_cast<double>(estimate) - truth;
    ++runs;
    sum += error;
    squares += error * error;
    variances += variance;
    within_one += std::abs(error) <= std::sqrt(variance);
    within_two += std::abs(error) <= 2 * std::sqrt(variance);
  }
  // `normal`: the estimate is a sum of so many terms that its errors are about normally
  // distributed.
  void Check(const std::string& what, bool normal) const {
    const double deviation = std::sqrt(squares / runs);
    // Half a unit for the rounding.
    EXPECT_LE(std::abs(sum / runs), 4 * deviation / std::sqrt(runs) + 0.5) << what;
    // What goes wrong once in millions of runs did not happen here, but counts in the variance.
    const double unseen = 1e-9 * truth * truth + 1;
    EXPECT_NEAR(variances / runs, squares / runs, 0.15 * squares / runs + unseen) << what;
    if (!normal) return;
    EXPECT_NEAR(static_cast<double>(within_one) / runs, 0.683, 0.06) << what;
    EXPECT_NEAR(static_cast<double>(within_two) / runs, 0.954, 0.03) << what;
  }
};

TEST(SampleEstimator, IsUnbiasedAndKnowsItsError) {
  constexpr int kRuns = 1500;
  std::mt19937_64 random(1);
  // By stack, 0 for the process.
  std::map<uint32_t, std::map<std::string, Errors>> errors;
  for (const uint32_t stack : {0u, 1u, 2u, 3u}) {
    const Figures truth = TruthOf(stack);
    errors[stack]["live_bytes"].truth = truth.live_bytes;
    errors[stack]["live_blocks"].truth = truth.live_blocks;
    errors[stack]["allocations"].truth = truth.allocations;
    errors[stack]["frees"].truth = truth.frees;
  }
  for (int run = 0; run < kRuns; ++run) {
    const ProcessHistory history = RunOnce(random);
    const auto add = [](std::map<std::string, Errors>& of, const auto& figures) {
      of["live_bytes"].Add(figures.live_bytes, figures.variances.live_bytes);
      of["live_blocks"].Add(figures.live_blocks, figures.variances.live_blocks);
      of["allocations"].Add(figures.allocations, figures.variances.allocations);
      of["frees"].Add(figures.frees, figures.variances.frees);
    };
    for (const uint32_t stack : {1u, 2u, 3u}) {
      const auto it = history.stacks.find({StackId{stack}, ThreadId{}, Domain::kHeap});
      add(errors[stack], it == history.stacks.end() ? StackStats{} : it->second);
    }
    add(errors[0], history.Total(Domain::kHeap));
  }
  for (const auto& [stack, of] : errors) {
    for (const auto& [figure, error] : of) {
      // Stack 3 has a handful of blocks that are always drawn, and thousands that hardly ever are.
      error.Check(absl::StrCat("stack ", stack, ", ", figure), stack == 1 || stack == 2);
    }
  }
}

TEST(SampleEstimator, KeepsTheRealSizes) {
  Replay replay({});
  HeaderRecord header;
  header.mode = Mode::kSample;
  header.sample_bytes = kSampleBytes;
  replay.OnHeader(header);
  replay.OnAlloc({5, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{1}, 0x1000, 16});
  replay.OnAlloc({6, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{1}, 0x2000, 64});
  replay.OnMap({7, ThreadId{1}, AllocFunction::kMmap, StackId{1}, 0x700000, 4096, 3, 0});
  replay.OnAlloc({8, ThreadId{1}, Domain::kDevice, AllocFunction::kGpu, StackId{1}, 0x1000, 16});
  const ProcessHistory history = replay.Finish({});
  EXPECT_EQ(history.sample_bytes, kSampleBytes);
  const StackStats& heap = history.stacks.find({StackId{1}, ThreadId{}, Domain::kHeap})->second;
  EXPECT_EQ(heap.smallest, 16u);
  EXPECT_EQ(heap.largest, 64u);
  EXPECT_EQ(heap.live_drawn, 2u);
  EXPECT_NEAR(static_cast<double>(heap.live_bytes), 2 * kSampleBytes + 40, 2);
  EXPECT_NEAR(static_cast<double>(heap.live_blocks), kSampleBytes / 16. + kSampleBytes / 64. + 1,
              1);
  EXPECT_EQ(heap.allocations, heap.live_blocks);
  EXPECT_EQ(heap.frees, 0u);
  // All else is known.
  const StackStats& device = history.stacks.find({StackId{1}, ThreadId{}, Domain::kDevice})->second;
  EXPECT_EQ(device.live_bytes, 16u);
  EXPECT_EQ(device.variances.live_bytes, 0);
  const StackStats& mapping =
      history.stacks.find({StackId{1}, ThreadId{}, Domain::kMapping})->second;
  EXPECT_EQ(mapping.live_bytes, 4096u);
  EXPECT_EQ(mapping.live_blocks, 1u);
}

// Weights of the time before the window are taken off.
TEST(SampleEstimator, KnowsTheWindow) {
  ReplayOptions options;
  options.since_ns = 100;
  Replay replay(options);
  HeaderRecord header;
  header.mode = Mode::kSample;
  header.sample_bytes = 1000;
  replay.OnHeader(header);
  constexpr uint64_t kBlock = SampleWeight::kOneBlock;
  CountersRecord counters{StackId{1}, Domain::kHeap, 10, 100, 0, 0, 50, 90};
  replay.OnCounters(counters);
  replay.OnWeights({StackId{1}, Domain::kHeap, 1000 * kBlock, 10'000, 0, 0});
  counters.pairs = 11;
  counters.last_ns = 200;
  replay.OnCounters(counters);
  replay.OnWeights({StackId{1}, Domain::kHeap, 1200 * kBlock, 12'000, 0, 0});
  replay.OnWeights({StackId{2}, Domain::kHeap, 7 * kBlock, 7, 0, 0});  // of no counters: ignored
  const ProcessHistory history = replay.Finish({});
  const StackStats& stats = history.stacks.find({StackId{1}, ThreadId{}, Domain::kHeap})->second;
  EXPECT_EQ(stats.allocations, 200u);
  EXPECT_EQ(stats.frees, 200u);
  EXPECT_EQ(stats.bytes, 2000u);
  EXPECT_EQ(history.stacks.size(), 1u);
  EXPECT_EQ(history.Total(Domain::kHeap).allocations, 1200u);
}

// Any sequence of calls is fine.
TEST(SampleEstimator, TrustsNoRecord) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 200; ++round) {
    Replay replay({});
    HeaderRecord header;
    header.mode = Mode::kSample;
    header.sample_bytes = round % 4 == 0 ? ~uint64_t{0} : random() >> random() % 64;
    replay.OnHeader(header);
    for (int i = 0; i < 300; ++i) {
      const uint64_t address = random() % 20;
      const uint64_t size = random() >> random() % 64;
      const StackId stack{static_cast<uint32_t>(random() % 3)};
      switch (random() % 4) {
        case 0:
          replay.OnFree({random() % 100, ThreadId{1}, Domain::kHeap, address});
          break;
        case 1:
          replay.OnCounters({stack, Domain::kHeap, size, size, size, size, 1, 2});
          break;
        case 2:
          replay.OnWeights({stack, Domain::kHeap, size, size, size, size});
          break;
        default:
          replay.OnAlloc({random() % 100, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, stack,
                          address, size});
      }
    }
    const ProcessHistory history = replay.Finish({});
    for (const auto& [key, stats] : history.stacks) {
      EXPECT_TRUE(std::isfinite(stats.variances.live_bytes));
      EXPECT_GE(stats.variances.live_bytes, 0);
    }
  }
}

}  // namespace
}  // namespace ollamatrace
