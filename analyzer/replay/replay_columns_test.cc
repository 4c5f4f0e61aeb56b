// Chunks of columns, replayed by the blocks' numbers, give what their records give.
#include <algorithm>
#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "analyzer/replay/replay.h"
#include "formats/test_trace.h"
#include "formats/trace_reader.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kMicrosecond = 1024;  // columns keep times in this unit
constexpr uint64_t kStart = 1'000'000 * kMicrosecond;

// Few addresses and lost records: blocks over live ones, frees of blocks that are not known, blocks
// of earlier chunks that are freed or replaced.
std::string RandomTrace(uint32_t seed, bool columns) {
  std::mt19937_64 random(seed);
  const auto below = [&](uint64_t bound) { return random() % bound; };
  TraceBuilder trace;
  HeaderRecord header;
  header.pid = 7;
  header.mode = Mode::kFull;
  header.start_ns = kStart;
  trace.Add(header);
  for (uint32_t id = 1; id <= 20; ++id) {
    trace.Add(NodeRecord{StackId{id}, StackId{id / 2}, ModuleId{}, 0x100000 + id, 0});
  }
  std::vector<bool> live(200);
  uint64_t time = kStart;
  for (int chunk = 0; chunk < 8; ++chunk) {
    for (int i = 0; i < 3000; ++i) {
      time += below(3) * kMicrosecond;
      const size_t place = below(live.size());
      const uint64_t address = 0x1000 + 64 * place;
      const ThreadId thread{static_cast<uint32_t>(1 + below(3))};
      if (below(100) == 0) live[place] = !live[place];  // something was lost
      if (live[place]) {
        trace.Add(FreeRecord{time, thread, Domain::kHeap, address});
      } else {
        trace.Add(AllocRecord{time, thread, Domain::kHeap, AllocFunction::kMalloc,
                              StackId{static_cast<uint32_t>(1 + below(20))}, address, below(500)});
      }
      live[place] = !live[place];
      if (below(50) == 0) {
        const uint64_t other = 0x100 + 16 * below(10);
        trace.Add(AllocRecord{time, thread, Domain::kDevice, AllocFunction::kGpu, StackId{3}, other,
                              4096});
      }
      if (below(500) == 0) {
        SampleRecord sample;
        sample.time_ns = time;
        trace.Add(sample);
      }
    }
    columns ? trace.CloseChunkOfColumns() : trace.CloseChunk();
  }
  trace.Add(EndRecord{time, EndKind::kExited});
  trace.CloseChunk();
  return trace.bytes();
}

ProcessHistory Replayed(const std::string& bytes, const ReplayOptions& options) {
  Replay replay(options);
  const absl::StatusOr<ReadSummary> summary = ReadTraceBytes(bytes, replay);
  EXPECT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->damaged_chunks, 0u);
  return replay.Finish(*summary);
}

using StackFigures =
    std::tuple<uint32_t, uint32_t, uint8_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
               uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t>;

std::vector<StackFigures> Stacks(const ProcessHistory& history) {
  std::vector<StackFigures> figures;
  for (const auto& [key, stats] : history.stacks) {
    figures.emplace_back(static_cast<uint32_t>(key.stack), static_cast<uint32_t>(key.thread),
                         static_cast<uint8_t>(key.domain), stats.live_bytes, stats.live_blocks,
                         stats.allocations, stats.frees, stats.bytes, stats.peak_bytes,
                         stats.first_ns, stats.last_ns, stats.smallest, stats.largest,
                         stats.oldest_ns, stats.newest_ns);
  }
  std::sort(figures.begin(), figures.end());
  return figures;
}

void ExpectSame(const ReplayOptions& options, uint32_t seed) {
  const ProcessHistory records = Replayed(RandomTrace(seed, /*columns=*/false), options);
  const ProcessHistory columns = Replayed(RandomTrace(seed, /*columns=*/true), options);
  EXPECT_EQ(Stacks(records), Stacks(columns));
  EXPECT_FALSE(Stacks(columns).empty());
  ASSERT_EQ(records.totals.size(), columns.totals.size());
  for (const auto& [key, total] : records.totals) {
    const DomainTotals& other = columns.totals.at(key);
    EXPECT_EQ(std::tie(total.live_bytes, total.live_blocks, total.peak_bytes, total.allocations,
                       total.frees, total.bytes),
              std::tie(other.live_bytes, other.live_blocks, other.peak_bytes, other.allocations,
                       other.frees, other.bytes));
  }
  EXPECT_EQ(records.unmatched_frees, columns.unmatched_frees);
  EXPECT_EQ(records.allocs_over_live, columns.allocs_over_live);
  EXPECT_EQ(records.end_ns, columns.end_ns);
  ASSERT_EQ(records.timeline.size(), columns.timeline.size());
  for (size_t i = 0; i < records.timeline.size(); ++i) {
    EXPECT_EQ(records.timeline[i].heap_live_bytes, columns.timeline[i].heap_live_bytes) << i;
  }
}

TEST(ReplayOfColumns, GivesWhatRecordsGive) {
  for (uint32_t seed = 1; seed <= 8; ++seed) ExpectSame({}, seed);
}

TEST(ReplayOfColumns, SeesWhatWasLost) {
  const ProcessHistory history = Replayed(RandomTrace(1, /*columns=*/true), {});
  EXPECT_GT(history.unmatched_frees, 0u);
  EXPECT_GT(history.allocs_over_live, 0u);
}

TEST(ReplayOfColumns, GivesWhatRecordsGiveByThread) {
  ReplayOptions options;
  options.by_thread = true;
  ExpectSame(options, 11);
}

TEST(ReplayOfColumns, GivesWhatRecordsGiveInAWindow) {
  ReplayOptions options;
  options.since_ns = kStart + 5000 * kMicrosecond;
  options.until_ns = kStart + 15000 * kMicrosecond;
  for (uint32_t seed = 21; seed <= 24; ++seed) ExpectSame(options, seed);
}

}  // namespace
}  // namespace ollamatrace
