// Replay's memory follows what is live and the distinct stacks, not the number of events. Counts
// every byte that this program allocates.
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <string>

#include "analyzer/replay/replay.h"
#include "formats/test_trace.h"
#include "formats/trace_reader.h"
#include "gtest/gtest.h"

namespace {

std::atomic<int64_t> live_bytes{0};
std::atomic<int64_t> peak_bytes{0};

}  // namespace

[[gnu::noinline]] void* operator new(size_t size) {
  void* const block = std::malloc(size);
  if (block == nullptr) throw std::bad_alloc();
  const int64_t now = live_bytes.fetch_add(static_cast<int64_t>(malloc_usable_size(block))) +
                      static_cast<int64_t>(malloc_usable_size(block));
  if (now > peak_bytes) peak_bytes = now;
  return block;
}

[[gnu::noinline]] void operator delete(void* block) noexcept {
  if (block != nullptr) live_bytes -= static_cast<int64_t>(malloc_usable_size(block));
  std::free(block);
}

[[gnu::noinline]] void operator delete(void* block, size_t) noexcept { operator delete(block); }

namespace ollamatrace {
namespace {

struct Load {
  uint64_t pairs = 0;   // malloc and free, one after the other
  uint64_t live = 0;    // blocks that stay
  uint32_t stacks = 0;  // distinct ones
  bool columns = false;
};

std::string TraceOf(const Load& load) {
  TraceBuilder trace;
  HeaderRecord header;
  header.mode = Mode::kFull;
  header.start_ns = 1;
  trace.Add(header);
  uint64_t time = 1;
  uint64_t records = 0;
  const auto next = [&] {
    time += 1000;
    if (++records % 20'000 == 0) load.columns ? trace.CloseChunkOfColumns() : trace.CloseChunk();
  };
  for (uint32_t id = 1; id <= load.stacks; ++id) {
    trace.Add(NodeRecord{StackId{id}, StackId{id - 1}, ModuleId{}, 0x10000 + id, 0});
    next();
  }
  const auto alloc = [&](uint64_t address, uint64_t i) {
    const StackId stack{static_cast<uint32_t>(1 + i % load.stacks)};
    trace.Add(AllocRecord{time, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, stack, address,
                          16 + i % 100});
    next();
  };
  for (uint64_t i = 0; i < load.live; ++i) alloc((uint64_t{1} << 30) + 128 * i, i);
  for (uint64_t i = 0; i < load.pairs; ++i) {
    const uint64_t address = 0x100000 + 128 * (i % 1000);
    alloc(address, i);
    trace.Add(FreeRecord{time, ThreadId{1}, Domain::kHeap, address});
    next();
  }
  trace.CloseChunk();
  return trace.bytes();
}

// The most that was allocated beyond what was there before.
int64_t PeakOf(const Load& load) {
  const std::string bytes = TraceOf(load);
  const int64_t before = live_bytes;
  peak_bytes = before;
  Replay replay({});
  const absl::StatusOr<ReadSummary> summary = ReadTraceBytes(bytes, replay);
  EXPECT_TRUE(summary.ok());
  const ProcessHistory history = replay.Finish(*summary);
  EXPECT_EQ(history.Total(Domain::kHeap).allocations, load.live + load.pairs);
  EXPECT_EQ(history.Total(Domain::kHeap).live_blocks, load.live);
  return peak_bytes - before;
}

class ReplayMemory : public testing::TestWithParam<bool> {};

TEST_P(ReplayMemory, DoesNotGrowWithEvents) {
  const bool columns = GetParam();
  const int64_t few = PeakOf({200'000, 5'000, 500, columns});
  const int64_t many = PeakOf({2'000'000, 5'000, 500, columns});
  ASSERT_GT(few, 0);
  // Ten times the events. What a stack's curve over time takes is bounded, and reached by both.
  EXPECT_LT(many, few + few / 5 + (256 << 10)) << few;
}

// The same measure does see what may grow.
TEST_P(ReplayMemory, GrowsWithWhatIsLive) {
  const bool columns = GetParam();
  const int64_t few = PeakOf({50'000, 5'000, 500, columns});
  const int64_t live = PeakOf({50'000, 205'000, 500, columns});
  EXPECT_GT(live - few, 200'000 * 24) << few;   // a block's size, time and row
  EXPECT_LT(live - few, 200'000 * 200) << few;  // hash tables double
}

INSTANTIATE_TEST_SUITE_P(Records, ReplayMemory, testing::Values(false));
INSTANTIATE_TEST_SUITE_P(Columns, ReplayMemory, testing::Values(true));

}  // namespace
}  // namespace ollamatrace
