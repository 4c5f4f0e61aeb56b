#include "analyzer/replay/replay.h"

#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;

constexpr uint64_t kSecond = 1'000'000'000;

Text Of(const char* text) { return {text, strlen(text)}; }

// Calls a Replay with few words. Times are seconds.
class Trace {
 public:
  explicit Trace(ReplayOptions options = {}) : replay_(std::move(options)) {}

  Trace& Header(uint64_t start = 0, bool fork = false, uint32_t pid = 7) {
    HeaderRecord header;
    header.pid = pid;
    header.ppid = 1;
    header.start_ns = start * kSecond;
    header.process_start = 55;
    header.born_by_fork = fork ? 1 : 0;
    header.exe = Of("/bin/server");
    static constexpr char kArgv[] = "server\0--port\0";
    header.argv = {kArgv, 13};
    replay_.OnHeader(header);
    return *this;
  }
  Trace& Alloc(uint64_t time, uint64_t address, uint64_t size, uint32_t stack = 1,
               Domain domain = Domain::kHeap, uint32_t thread = 1) {
    replay_.OnAlloc({time * kSecond, ThreadId{thread}, domain, AllocFunction::kMalloc,
                     StackId{stack}, address, size});
    return *this;
  }
  Trace& Free(uint64_t time, uint64_t address, Domain domain = Domain::kHeap) {
    replay_.OnFree({time * kSecond, ThreadId{1}, domain, address});
    return *this;
  }
  Trace& Map(uint64_t time, uint64_t address, uint64_t length, uint32_t stack = 2,
             uint8_t kind = kMapAnonymous, uint8_t protection = 3,
             AllocFunction function = AllocFunction::kMmap) {
    replay_.OnMap(
        {time * kSecond, ThreadId{1}, function, StackId{stack}, address, length, protection, kind});
    return *this;
  }
  Trace& Unmap(uint64_t time, uint64_t address, uint64_t length) {
    replay_.OnUnmap({time * kSecond, ThreadId{1}, address, length});
    return *this;
  }
  Trace& Pairs(uint32_t stack, uint64_t pairs, uint64_t bytes, uint64_t first, uint64_t last,
               uint64_t peak = 0) {
    replay_.OnCounters(
        {StackId{stack}, Domain::kHeap, pairs, bytes, 0, peak, first * kSecond, last * kSecond});
    return *this;
  }
  Trace& Sample(uint64_t time, uint64_t pooled = kUnknownGauge,
                uint64_t pool_peak = kUnknownGauge) {
    SampleRecord sample;
    sample.time_ns = time * kSecond;
    sample.pooled_bytes = pooled;
    sample.pooled_peak_bytes = pool_peak;
    replay_.OnSample(sample);
    return *this;
  }
  Trace& End(uint64_t time, EndKind kind = EndKind::kExited) {
    replay_.OnEnd({time * kSecond, kind});
    return *this;
  }
  Replay& replay() { return replay_; }
  ProcessHistory Finish(const ReadSummary& summary = {}) { return replay_.Finish(summary); }

 private:
  Replay replay_;
};

StackStats StatsOf(const ProcessHistory& history, uint32_t stack, Domain domain = Domain::kHeap,
                   uint32_t thread = 0, MappingClass mapping = MappingClass::kAnonymous) {
  const auto it = history.stacks.find(StackKey{StackId{stack}, ThreadId{thread}, domain, mapping});
  return it == history.stacks.end() ? StackStats{} : it->second;
}

TEST(Replay, NothingAtAll) {
  const ProcessHistory history = Trace().Finish();
  EXPECT_FALSE(history.has_header);
  EXPECT_EQ(history.start_ns, 0u);
  EXPECT_EQ(history.end_ns, 0u);
  EXPECT_EQ(history.end, ProcessEnd::kKilled);
  EXPECT_TRUE(history.stacks.empty());
  EXPECT_TRUE(history.timeline.empty());
}

TEST(Replay, TheHeaderSaysWhoItIs) {
  Trace trace;
  trace.Header(3);
  HeaderRecord second;
  second.pid = 99;
  trace.replay().OnHeader(second);
  const ProcessHistory history = trace.Finish();
  EXPECT_EQ(history.pid, 7u);
  EXPECT_EQ(history.ppid, 1u);
  EXPECT_EQ(history.exe, "/bin/server");
  EXPECT_THAT(history.argv, ElementsAre("server", "--port"));
  EXPECT_EQ(history.start_ns, 3 * kSecond);
}

TEST(Replay, SurvivorsByStack) {
  const ProcessHistory history = Trace()
                                     .Header()
                                     .Alloc(1, 0x100, 10, 1)
                                     .Alloc(2, 0x200, 30, 1)
                                     .Alloc(3, 0x300, 7, 2)
                                     .Alloc(4, 0x400, 50, 1)
                                     .Free(5, 0x200)
                                     .Free(6, 0x300)
                                     .End(9)
                                     .Finish();
  const StackStats one = StatsOf(history, 1);
  EXPECT_EQ(one.live_bytes, 60u);
  EXPECT_EQ(one.live_blocks, 2u);
  EXPECT_EQ(one.allocations, 3u);
  EXPECT_EQ(one.frees, 1u);
  EXPECT_EQ(one.bytes, 90u);
  EXPECT_EQ(one.peak_bytes, 90u);
  EXPECT_EQ(one.first_ns, 1 * kSecond);
  EXPECT_EQ(one.last_ns, 4 * kSecond);
  EXPECT_EQ(one.smallest, 10u);
  EXPECT_EQ(one.largest, 50u);
  EXPECT_EQ(one.oldest_ns, 1 * kSecond);
  EXPECT_EQ(one.newest_ns, 4 * kSecond);
  EXPECT_EQ(StatsOf(history, 2).live_blocks, 0u);
  const DomainTotals& heap = history.Total(Domain::kHeap);
  EXPECT_EQ(heap.live_bytes, 60u);
  EXPECT_EQ(heap.live_blocks, 2u);
  EXPECT_EQ(heap.peak_bytes, 97u);
  EXPECT_EQ(heap.allocations, 4u);
  EXPECT_EQ(heap.frees, 2u);
  EXPECT_EQ(history.unmatched_frees, 0u);
  EXPECT_EQ(history.end, ProcessEnd::kExited);
  EXPECT_EQ(history.end_ns, 9 * kSecond);
}

TEST(Replay, AnAddressIsReused) {
  const ProcessHistory history =
      Trace().Header().Alloc(1, 0x100, 10, 1).Free(2, 0x100).Alloc(3, 0x100, 20, 2).Finish();
  EXPECT_EQ(StatsOf(history, 1).live_blocks, 0u);
  EXPECT_EQ(StatsOf(history, 2).live_bytes, 20u);
  EXPECT_EQ(history.allocs_over_live, 0u);
}

TEST(Replay, AnAllocationOverALiveBlockTakesItsPlace) {
  const ProcessHistory history = Trace()
                                     .Header()
                                     .Alloc(1, 0x100, 10, 1)
                                     .Alloc(3, 0x100, 20, 2)
                                     .Free(4, 0x100)
                                     .Free(5, 0x100)
                                     .Finish();
  EXPECT_EQ(history.allocs_over_live, 1u);
  EXPECT_EQ(history.unmatched_frees, 1u);
  EXPECT_EQ(StatsOf(history, 1).live_bytes, 0u);
  EXPECT_EQ(StatsOf(history, 1).frees, 1u);
  EXPECT_EQ(StatsOf(history, 2).live_bytes, 0u);
  EXPECT_EQ(history.Total(Domain::kHeap).live_blocks, 0u);
}

TEST(Replay, DomainsHaveAddressesOfTheirOwn) {
  const ProcessHistory history = Trace()
                                     .Header()
                                     .Alloc(1, 0x100, 10, 1)
                                     .Alloc(1, 0x100, 40, 1, Domain::kDevice)
                                     .Free(2, 0x100)
                                     .Finish();
  EXPECT_EQ(StatsOf(history, 1).live_bytes, 0u);
  EXPECT_EQ(StatsOf(history, 1, Domain::kDevice).live_bytes, 40u);
  EXPECT_EQ(history.Total(Domain::kDevice).peak_bytes, 40u);
  EXPECT_EQ(history.allocs_over_live, 0u);
}

TEST(Replay, UnmatchedFreesOfAForksChildAreItsParents) {
  EXPECT_EQ(Trace().Header(0, /*fork=*/false).Free(1, 0x5).Finish().unmatched_frees, 1u);
  EXPECT_EQ(Trace().Header(0, /*fork=*/true).Free(1, 0x5).Finish().unmatched_frees, 0u);
}

TEST(Replay, BlocksOfSizeZeroAreBlocks) {
  const ProcessHistory history = Trace().Header().Alloc(1, 0x100, 0).Finish();
  EXPECT_EQ(StatsOf(history, 1).live_blocks, 1u);
  EXPECT_EQ(StatsOf(history, 1).smallest, 0u);
}

TEST(Replay, SizesOfADamagedTraceStopAtTheTop) {
  const uint64_t huge = ~uint64_t{0};
  const ProcessHistory history = Trace()
                                     .Header()
                                     .Alloc(1, 1, huge)
                                     .Alloc(1, 2, huge)
                                     .Free(2, 1)
                                     .Map(1, 5, huge)
                                     .Map(1, 0, huge)
                                     .Finish();
  EXPECT_EQ(history.Total(Domain::kHeap).bytes, huge);
  EXPECT_EQ(history.Total(Domain::kHeap).live_blocks, 1u);
  EXPECT_EQ(history.Total(Domain::kMapping).live_blocks, 1u);
}

TEST(Replay, FoldedPairsCount) {
  const ProcessHistory history = Trace()
                                     .Header()
                                     .Pairs(1, 100, 1000, 1, 5, 300)
                                     .Alloc(3, 0x100, 10, 1)
                                     .Pairs(1, 250, 2500, 1, 8, 400)
                                     .Pairs(2, 5, 50, 2, 2)
                                     .Finish();
  const StackStats one = StatsOf(history, 1);
  EXPECT_EQ(one.allocations, 251u);
  EXPECT_EQ(one.frees, 250u);
  EXPECT_EQ(one.bytes, 2510u);
  EXPECT_EQ(one.peak_bytes, 400u);
  EXPECT_EQ(one.live_bytes, 10u);
  EXPECT_EQ(one.first_ns, 1 * kSecond);
  EXPECT_EQ(one.last_ns, 8 * kSecond);
  EXPECT_EQ(StatsOf(history, 2).allocations, 5u);
  EXPECT_EQ(history.Total(Domain::kHeap).allocations, 256u);
  EXPECT_EQ(history.Total(Domain::kHeap).frees, 255u);
  EXPECT_EQ(history.Total(Domain::kHeap).peak_bytes, 400u);
}

TEST(Replay, ThePeakCountsThePool) {
  // 100 bytes written, 900 more in the drain's pool at the sample; at their greatest they were
  // 1500.
  ProcessHistory history =
      Trace().Header().Alloc(1, 0x1, 100).Sample(2, 900, 1200).Sample(3, 0, 1500).Finish();
  EXPECT_EQ(history.Total(Domain::kHeap).peak_bytes, 1600u);
  EXPECT_EQ(history.timeline[0].heap_live_bytes, 1000u);
  // What was freed before the pool's peak may not be added to it.
  history =
      Trace().Header().Alloc(1, 0x1, 100).Sample(2, 0, 0).Free(3, 0x1).Sample(4, 0, 500).Finish();
  EXPECT_EQ(history.Total(Domain::kHeap).peak_bytes, 500u);
}

TEST(Replay, MappingsByClass) {
  const ProcessHistory history =
      Trace()
          .Header()
          .Map(1, 0x10000, 0x4000, 1)
          .Map(1, 0x20000, 0x1000, 1, kMapFilePrivate)
          .Map(1, 0x30000, 0x2000, 1, kMapFileShared)
          .Map(1, 0x40000, 0x8000, 1, kMapAnonymous, /*protection=*/0)
          .Map(1, 0x50000, 0x1000, 1, kMapSharedAnonymous)
          .Map(1, 0x60000, 0x3000, 1, kMapAnonymous, 3, AllocFunction::kBrk)
          .Finish();
  EXPECT_EQ(StatsOf(history, 1, Domain::kMapping).live_bytes, 0x5000u);
  EXPECT_EQ(StatsOf(history, 1, Domain::kMapping, 0, MappingClass::kFile).live_blocks, 2u);
  EXPECT_EQ(StatsOf(history, 1, Domain::kMapping, 0, MappingClass::kReserved).live_bytes, 0x8000u);
  EXPECT_EQ(StatsOf(history, 1, Domain::kBreak).live_bytes, 0x3000u);
  EXPECT_EQ(history.Total(Domain::kMapping).live_bytes, 0x5000u);
  EXPECT_EQ(history.Total(Domain::kMapping, MappingClass::kFile).live_bytes, 0x3000u);
}

TEST(Replay, MappingsAreCutAndReplaced) {
  const ProcessHistory history = Trace()
                                     .Header()
                                     .Map(1, 0x10000, 0x4000, 1)
                                     .Unmap(2, 0x11000, 0x1000)
                                     .Map(3, 0x12000, 0x1000, 2)
                                     .Unmap(4, 0x10000, 0x1000)
                                     .Unmap(4, 0x90000, 0x1000)
                                     .Finish();
  const StackStats one = StatsOf(history, 1, Domain::kMapping);
  EXPECT_EQ(one.live_bytes, 0x1000u);
  EXPECT_EQ(one.live_blocks, 1u);
  EXPECT_EQ(one.frees, 0u);
  EXPECT_EQ(one.smallest, 0x1000u);
  EXPECT_EQ(StatsOf(history, 2, Domain::kMapping).live_bytes, 0x1000u);
  EXPECT_EQ(history.Total(Domain::kMapping).live_bytes, 0x2000u);
  EXPECT_EQ(history.Total(Domain::kMapping).live_blocks, 2u);
  EXPECT_EQ(history.unmatched_frees, 0u);
}

TEST(Replay, ThreadsApart) {
  ReplayOptions options;
  options.by_thread = true;
  const ProcessHistory history = Trace(options)
                                     .Header()
                                     .Alloc(1, 0x1, 10, 1, Domain::kHeap, 3)
                                     .Alloc(1, 0x2, 20, 1, Domain::kHeap, 4)
                                     .Pairs(1, 7, 70, 1, 1)
                                     .Finish();
  EXPECT_EQ(StatsOf(history, 1, Domain::kHeap, 3).live_bytes, 10u);
  EXPECT_EQ(StatsOf(history, 1, Domain::kHeap, 4).live_bytes, 20u);
  EXPECT_EQ(StatsOf(history, 1, Domain::kHeap, 0).allocations, 7u);
}

TEST(Replay, TheWindow) {
  ReplayOptions options;
  options.since_ns = 10 * kSecond;
  options.until_ns = 20 * kSecond;
  Trace trace(options);
  trace.Header()
      .Alloc(5, 0x1, 1)    // before: part of the state, of no stack
      .Alloc(6, 0x2, 2)    // before, freed within
      .Alloc(12, 0x3, 4)   // within
      .Alloc(13, 0x4, 8)   // within, freed within
      .Alloc(14, 0x5, 16)  // within, freed after: live
      .Alloc(21, 0x6, 32)  // after
      .Free(15, 0x2)
      .Free(16, 0x4)
      .Free(25, 0x5)
      .Free(26, 0x6)
      .Map(5, 0x10000, 0x1000)
      .Map(15, 0x20000, 0x2000)
      .Unmap(25, 0x20000, 0x2000)
      .Sample(10)
      .Sample(30)
      .End(40);
  const ProcessHistory history = trace.Finish();
  const StackStats one = StatsOf(history, 1);
  EXPECT_EQ(one.live_bytes, 20u);
  EXPECT_EQ(one.live_blocks, 2u);
  EXPECT_EQ(one.allocations, 3u);
  EXPECT_EQ(one.frees, 1u);
  EXPECT_EQ(one.oldest_ns, 12 * kSecond);
  EXPECT_EQ(StatsOf(history, 2, Domain::kMapping).live_bytes, 0x2000u);
  EXPECT_EQ(history.Total(Domain::kHeap).live_bytes, 21u);
  EXPECT_EQ(history.Total(Domain::kMapping).live_bytes, 0x3000u);
  EXPECT_EQ(history.unmatched_frees, 0u);
  ASSERT_EQ(history.timeline.size(), 1u);
  EXPECT_EQ(history.end, ProcessEnd::kExited);
  EXPECT_EQ(history.end_ns, 40 * kSecond);
}

TEST(Replay, TheWindowOfFoldedPairs) {
  ReplayOptions options;
  options.since_ns = 10 * kSecond;
  options.until_ns = 20 * kSecond;
  const ProcessHistory history = Trace(options)
                                     .Header()
                                     .Pairs(1, 10, 100, 1, 4)
                                     .Pairs(1, 30, 300, 1, 9)
                                     .Pairs(1, 70, 700, 1, 19)
                                     .Pairs(1, 150, 1500, 1, 25)
                                     .Pairs(2, 5, 50, 1, 5)
                                     .Finish();
  EXPECT_EQ(StatsOf(history, 1).allocations, 40u);
  EXPECT_EQ(StatsOf(history, 1).bytes, 400u);
  EXPECT_EQ(StatsOf(history, 1).first_ns, 10 * kSecond);
  EXPECT_FALSE(history.stacks.contains(StackKey{StackId{2}}));
  EXPECT_EQ(history.Total(Domain::kHeap).allocations, 75u);
}

// What a stack held at the end of each slot.
std::vector<int64_t> Levels(const ProcessHistory& history, uint32_t stack, bool requests) {
  GroupSeries::Sums sums;
  history.series.AddTo(StatsOf(history, stack).row, sums);
  std::vector<int64_t> levels;
  for (const int64_t delta : requests ? sums.requests : sums.time) {
    levels.push_back(delta + (levels.empty() ? 0 : levels.back()));
  }
  return levels;
}

TEST(Replay, LiveBytesOverTime) {
  Trace trace;
  trace.Header();
  trace.Alloc(1, 0x1, 1000, 1);                                          // once, at the start
  for (uint64_t i = 0; i < 100; ++i) trace.Alloc(i, 0x1000 + i, 10, 2);  // all the time
  for (uint64_t i = 0; i < 100; ++i) {                                   // a cache of five
    trace.Alloc(i, 0x2000 + i, 10, 3);
    if (i >= 5) trace.Free(i, 0x2000 + i - 5);
  }
  const ProcessHistory history = trace.End(100).Finish();
  const size_t slots = history.series.time_slots();
  EXPECT_GT(slots, 100u);
  const auto at = [&](uint64_t seconds) { return history.series.SlotOfTime(seconds * kSecond); };
  const auto once = Levels(history, 1, false), all = Levels(history, 2, false),
             cache = Levels(history, 3, false);
  ASSERT_EQ(once.size(), slots);
  EXPECT_EQ(once[at(5)], 1000);
  EXPECT_EQ(once.back(), 1000);
  EXPECT_NEAR(static_cast<double>(all[at(50)]), 510, 10);
  EXPECT_EQ(all.back(), 1000);
  EXPECT_EQ(cache[at(50)], 50);
  EXPECT_EQ(cache.back(), 50);
  // The cache's old entries are gone, and were five seconds old when they went.
  GroupSeries::Sums sums;
  history.series.AddTo(StatsOf(history, 3).row, sums);
  EXPECT_EQ(sums.live.front(), 0u);
  EXPECT_EQ(sums.born.front(), sums.born[10]);
  const DeathAges::Counts& ages = history.death_ages.Of(StatsOf(history, 3).row);
  size_t bucket = 0;
  while (DeathAges::LimitNs(bucket) <= 5 * kSecond) ++bucket;
  EXPECT_EQ(ages[bucket], 95u);
}

TEST(Replay, LiveBytesOverRequests) {
  ReplayOptions options;
  options.request_times = {2 * kSecond, 10 * kSecond, 20 * kSecond, 30 * kSecond, 90 * kSecond};
  Trace trace(options);
  trace.Header(5);  // the first request was another process's
  trace.Alloc(6, 0x1, 100, 1);
  trace.Alloc(10, 0x2, 1, 2).Alloc(15, 0x3, 1, 2).Alloc(25, 0x4, 1, 2).Free(26, 0x2);
  trace.Alloc(20, 0x5, 5, 1).Alloc(30, 0x6, 7, 1);
  const ProcessHistory history = trace.End(50).Finish();
  EXPECT_EQ(history.requests, 3u);
  EXPECT_THAT(Levels(history, 1, true), testing::ElementsAre(100, 105, 112, 112));
  EXPECT_THAT(Levels(history, 2, true), testing::ElementsAre(1, 2, 2, 2));
  EXPECT_EQ(history.series.RequestsAt(1), 2u);
}

TEST(Replay, NoRequestsNoAxisOfRequests) {
  const ProcessHistory history = Trace().Header().Alloc(1, 1, 9).Finish();
  EXPECT_EQ(history.series.request_slots(), 0u);
  EXPECT_TRUE(Levels(history, 1, true).empty());
}

TEST(Replay, HowItEnded) {
  EXPECT_EQ(Trace().Header().End(5).Finish().end, ProcessEnd::kExited);
  EXPECT_EQ(Trace().Header().End(5, EndKind::kExec).Finish().end, ProcessEnd::kExec);
  EXPECT_EQ(Trace().Header().End(5, EndKind::kStopped).Finish().end, ProcessEnd::kStopped);
  ReadSummary journal;
  journal.has_journal = true;
  EXPECT_EQ(Trace().Header().Finish(journal).end, ProcessEnd::kKilled);
  journal.owner_alive = true;
  EXPECT_EQ(Trace().Header().Finish(journal).end, ProcessEnd::kRunning);
  const ProcessHistory killed = Trace().Header(1).Alloc(4, 1, 1).Alloc(3, 2, 1).Finish();
  EXPECT_EQ(killed.end, ProcessEnd::kKilled);
  EXPECT_EQ(killed.end_ns, 4 * kSecond);
}

TEST(Replay, TheTimelineIsThinnedAndKeepsTheLastSample) {
  Trace trace;
  trace.Header();
  constexpr uint64_t kSamples = 20'001;
  for (uint64_t i = 0; i < kSamples; ++i) trace.Sample(i);
  const ProcessHistory history = trace.Finish();
  EXPECT_EQ(history.samples, kSamples);
  EXPECT_LE(history.timeline.size(), 4097u);
  EXPECT_GE(history.timeline.size(), 2048u);
  EXPECT_EQ(history.timeline.front().sample.time_ns, 0u);
  EXPECT_EQ(history.timeline.back().sample.time_ns, (kSamples - 1) * kSecond);
  for (size_t i = 1; i < history.timeline.size(); ++i) {
    EXPECT_LT(history.timeline[i - 1].sample.time_ns, history.timeline[i].sample.time_ns);
  }
}

TEST(Replay, NamesStayAfterUnload) {
  Trace trace;
  trace.Header();
  ModuleRecord module;
  module.id = ModuleId{4};
  module.path = Of("/lib/plugin.so");
  module.bias = 0x7000;
  trace.replay().OnModule(module);
  trace.replay().OnModuleUnload({ModuleId{4}, kSecond});
  trace.replay().OnNode({StackId{9}, StackId{8}, ModuleId{4}, 0x7123, 1});
  trace.replay().OnNode({StackId{0}, StackId{8}, ModuleId{4}, 0x7123, 1});
  trace.replay().OnThread({ThreadId{1}, 0, 70, Of("first")});
  trace.replay().OnThread({ThreadId{1}, 0, 70, Of("renamed")});
  const ProcessHistory history = trace.Finish();
  EXPECT_EQ(history.modules.at(4).path, "/lib/plugin.so");
  EXPECT_EQ(history.nodes.size(), 1u);
  ASSERT_TRUE(history.nodes.Contains(StackId{9}));
  EXPECT_EQ(history.nodes.Find(StackId{9})->address, 0x7123u);
  EXPECT_TRUE(history.nodes.Find(StackId{9})->exact);
  EXPECT_EQ(history.thread_names.at(1), "renamed");
}

TEST(Replay, LossesAndMessages) {
  Trace trace;
  trace.Header();
  trace.replay().OnLoss({1, LossKind::kUnfinished, 3});
  trace.replay().OnLoss({2, LossKind::kUnfinished, 5});
  for (int i = 0; i < 250; ++i) trace.replay().OnMessage({1, Of("setting ignored")});
  const ProcessHistory history = trace.Finish();
  EXPECT_EQ(history.losses.at(LossKind::kUnfinished), 5u);
  EXPECT_EQ(history.messages.size(), 200u);
  EXPECT_EQ(history.messages_dropped, 50u);
}

// Against the plainest model there is.
TEST(Replay, AgreesWithAModel) {
  std::mt19937 draw(3);
  Trace trace;
  trace.Header();
  std::map<uint64_t, std::pair<uint64_t, uint32_t>> live;
  uint64_t allocations = 0, frees = 0, peak = 0, bytes = 0;
  for (uint64_t step = 0; step < 50'000; ++step) {
    const uint64_t address = draw() % 500;
    const auto it = live.find(address);
    if (it == live.end()) {
      const uint64_t size = draw() % 1000;
      const uint32_t stack = 1 + draw() % 20;
      trace.Alloc(step, address, size, stack);
      live[address] = {size, stack};
      ++allocations;
      bytes += size;
      peak = std::max(peak, bytes);
    } else {
      trace.Free(step, address);
      bytes -= it->second.first;
      live.erase(it);
      ++frees;
    }
  }
  const ProcessHistory history = trace.Finish();
  const DomainTotals& heap = history.Total(Domain::kHeap);
  EXPECT_EQ(heap.live_bytes, bytes);
  EXPECT_EQ(heap.live_blocks, live.size());
  EXPECT_EQ(heap.allocations, allocations);
  EXPECT_EQ(heap.frees, frees);
  EXPECT_EQ(heap.peak_bytes, peak);
  std::map<uint32_t, uint64_t> by_stack;
  for (const auto& [address, block] : live) by_stack[block.second] += block.first;
  for (const auto& [key, stats] : history.stacks) {
    EXPECT_EQ(stats.live_bytes, by_stack[static_cast<uint32_t>(key.stack)]);
    EXPECT_EQ(stats.allocations - stats.frees, stats.live_blocks);
  }
  EXPECT_EQ(history.unmatched_frees, 0u);
  EXPECT_EQ(history.allocs_over_live, 0u);
}

// What a checkpoint says of dropped history: what is live with its own times, in no order; sums;
// samples with what was live then.
TEST(Replay, ACheckpointAndASegment) {
  Trace trace;
  trace.Header();
  trace.Alloc(30, 0x30, 300).Alloc(10, 0x10, 100);
  DroppedRecord dropped;
  dropped.stack = StackId{1};
  dropped.pairs = 5;
  dropped.bytes = 50;
  dropped.first_ns = 5 * kSecond;
  dropped.last_ns = 25 * kSecond;
  trace.replay().OnDropped(dropped);
  SampleRecord sample;
  sample.time_ns = 20 * kSecond;
  sample.pooled_bytes = 7;
  sample.written_bytes = 900;
  sample.mapped_bytes = 4096;
  trace.replay().OnSample(sample);
  trace.End(35, EndKind::kSegment);
  trace.Alloc(40, 0x40, 400).Free(45, 0x10).Sample(50, 0).End(60);
  const ProcessHistory history = trace.Finish();
  EXPECT_EQ(history.end, ProcessEnd::kExited);
  const DomainTotals heap = history.Total(Domain::kHeap);
  EXPECT_EQ(heap.live_bytes, 700u);
  EXPECT_EQ(heap.allocations, 8u);
  EXPECT_EQ(heap.frees, 6u);
  EXPECT_EQ(heap.bytes, 850u);
  EXPECT_EQ(heap.peak_bytes, 907u);
  ASSERT_EQ(history.timeline.size(), 2u);
  EXPECT_EQ(history.timeline[0].heap_live_bytes, 907u);
  EXPECT_EQ(history.timeline[0].mapped_live_bytes, 4096u);
  EXPECT_EQ(history.timeline[1].heap_live_bytes, 700u);
  const StackStats& stats = history.stacks.begin()->second;
  EXPECT_EQ(stats.allocations, 8u);
  EXPECT_EQ(stats.first_ns, 5 * kSecond);
  EXPECT_EQ(history.unmatched_frees, 0u);
}

ProcessHistory At(uint64_t start, uint32_t pid, uint64_t process_start) {
  ProcessHistory history;
  history.has_header = true;
  history.start_ns = start;
  history.pid = pid;
  history.process_start = process_start;
  history.end = ProcessEnd::kRunning;
  return history;
}

TEST(MarkExecs, TheSameProcessInAnotherProgram) {
  std::vector<ProcessHistory> histories = {At(30, 7, 55), At(10, 7, 55), At(20, 7, 55),
                                           At(40, 7, 99), At(10, 8, 55), At(50, 9, 0),
                                           At(60, 9, 0)};
  MarkExecs(histories);
  std::vector<bool> execs;
  for (const ProcessHistory& history : histories) execs.push_back(history.end == ProcessEnd::kExec);
  EXPECT_THAT(execs, ElementsAre(false, true, true, false, false, false, false));
}

}  // namespace
}  // namespace ollamatrace
