#include "preload/drain/drain.h"

#include <gmock/gmock.h>
#include <sys/resource.h>

#include <algorithm>
#include <random>
#include <thread>

#include "preload/drain/drain_fixture.h"
#include "preload/drain/eviction.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint8_t kHeap = static_cast<uint8_t>(Domain::kHeap);

ProcessOptions InMode(Mode mode) {
  ProcessOptions options;
  options.mode = mode;
  return options;
}

TEST(DrainTest, PairsAreFoldedAndSurvivorsWritten) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Alloc(0x1000, 10, stack);
  thread.Alloc(0x2000, 20, stack);
  thread.Free(0x1000);
  thread.Alloc(0x3000, 40, stack);
  process.DrainAll();
  EXPECT_EQ(process.drain->pooled_bytes, 60u);
  thread.Free(0x3000);
  Replay replay;
  process.FinishAndRead(&replay);
  ASSERT_THAT(replay.live, SizeIs(1));
  EXPECT_EQ(replay.live.begin()->first.second, 0x2000u);
  EXPECT_EQ(replay.live.begin()->second.size, 20u);
  EXPECT_EQ(replay.live.begin()->second.stack, stack);
  EXPECT_EQ(replay.live.begin()->second.thread, 1u);
  EXPECT_EQ(replay.frees, 0u);
  const CountersRecord& counters = replay.counters[{stack, kHeap}];
  EXPECT_EQ(counters.pairs, 2u);
  EXPECT_EQ(counters.bytes, 50u);
  EXPECT_EQ(counters.peak_bytes, 60u);
  EXPECT_GT(counters.first_ns, 0u);
  EXPECT_GE(counters.last_ns, counters.first_ns);
}

// Mode sample: the pairs are counted as they are, and what they stand for is summed beside them.
TEST(DrainTest, PairsOfASampleAreWeighed) {
  constexpr uint64_t kSampleBytes = 1000;
  ProcessOptions options = InMode(Mode::kSample);
  options.sample_bytes = kSampleBytes;
  Process process(options);
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  const uint8_t device = static_cast<uint8_t>(Domain::kDevice);
  thread.Alloc(0x1000, 10, stack);
  thread.Alloc(0x2000, 5000, stack);
  thread.Alloc(0x3000, 0, stack);
  thread.Emit(Producer::Make(EventKind::kAlloc, 0x4000, 10, stack, AllocFunction::kGpu, device));
  process.DrainAll();
  Weights held;
  for (uint64_t size : {10, 5000, 0}) held += WeightOf(size, kSampleBytes);
  EXPECT_EQ(process.drain->pooled_bytes, held.bytes);
  EXPECT_EQ(DrainSample(process.drain, SampleRecord()), DrainStatus::kIdle);
  thread.Free(0x1000);
  thread.Free(0x2000);
  thread.Emit(Producer::Make(EventKind::kFree, 0x4000, 0, 0, AllocFunction::kMalloc, device));
  process.DrainAll();
  EXPECT_EQ(process.drain->pooled_bytes, 0u);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_EQ(replay.sample_bytes, kSampleBytes);
  ASSERT_THAT(replay.live, SizeIs(1));
  EXPECT_EQ(replay.live.begin()->second.size, 0u);
  const CountersRecord& counters = replay.counters[{stack, kHeap}];
  EXPECT_EQ(counters.pairs, 2u);
  EXPECT_EQ(counters.bytes, 5010u);
  EXPECT_EQ(counters.peak_bytes, held.bytes);
  Weights folded, wanted;
  folded += replay.weights[{stack, kHeap}];
  for (uint64_t size : {10, 5000}) wanted += WeightOf(size, kSampleBytes);
  EXPECT_TRUE(folded == wanted);
  EXPECT_GT(wanted.bytes, 5900u);
  ASSERT_THAT(replay.samples, SizeIs(1));
  EXPECT_EQ(replay.samples[0].pooled_bytes, held.bytes);
  EXPECT_EQ(replay.samples[0].pooled_blocks, held.blocks >> 16);
  // What is not drawn stands for itself.
  EXPECT_EQ((replay.counters[{stack, device}].pairs), 1u);
  EXPECT_THAT(replay.weights, SizeIs(1));
}

TEST(DrainTest, FullModeKeepsEveryEvent) {
  Process process(InMode(Mode::kFull));
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Alloc(0x1000, 10, stack);
  thread.Free(0x1000);
  thread.Alloc(0x1000, 30, stack);
  thread.ReallocFree(0x1000);
  thread.ReallocDone(0x5000, 50, stack);
  thread.ReallocFree(0x5000);
  thread.ReallocFailed(0x5000);
  thread.ReallocFree(0x5000);
  thread.ReallocFreed(0x5000);
  thread.Map(0x10000, 8192, stack);
  thread.Unmap(0x10000, 4096);
  thread.UnmapFailed(0x10000, 4096);
  thread.Unmap(0x11000, 4096);
  thread.Alloc(0x9000, 1, stack);
  Replay replay;
  replay.keep_events = true;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.events, ElementsAre("alloc 1000 10", "free 1000 0", "alloc 1000 30",
                                         "free 1000 0", "alloc 5000 50", "free 5000 0",
                                         "map 10000 8192", "unmap 11000 4096", "alloc 9000 1"));
  EXPECT_THAT(replay.counters, IsEmpty());
}

TEST(DrainTest, AFreeOfAnUnknownBlockIsWritten) {
  Process process;
  Producer thread(&process, 0, 1);
  thread.Free(0x1000);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_EQ(replay.unknown_frees, 1u);
}

TEST(DrainTest, AnAllocOverALiveBlockReplacesIt) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Alloc(0x1000, 10, stack);
  process.DrainAll();
  thread.Alloc(0x1000, 30, stack);
  process.DrainAll();
  EXPECT_EQ(process.drain->pooled_bytes, 30u);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_EQ(replay.allocs_over_live, 0u);
  EXPECT_EQ((replay.live[{kHeap, 0x1000}].size), 30u);
  EXPECT_EQ(replay.Pairs(Domain::kHeap), 1u);
}

TEST(DrainTest, BlocksOfTwoDomainsMayHaveOneAddress) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  constexpr uint8_t kPool = static_cast<uint8_t>(Domain::kPool);
  thread.Alloc(0x1000, 10, stack);
  thread.Emit(Producer::Make(EventKind::kAlloc, 0x1000, 7, stack, AllocFunction::kGpu, kPool));
  thread.Free(0x1000);
  process.DrainAll();
  EXPECT_EQ(process.drain->pooled_bytes, 0u);
  Replay replay;
  process.FinishAndRead(&replay);
  ASSERT_THAT(replay.live, SizeIs(1));
  EXPECT_EQ((replay.live[{kPool, 0x1000}].size), 7u);
  EXPECT_EQ((replay.counters[{stack, kHeap}].pairs), 1u);
}

// ---- Order

TEST(DrainTest, TheOrderIsTheShards) {
  for (const Mode mode : {Mode::kFull, Mode::kSurvivors}) {
    Process process(InMode(mode));
    Producer a(&process, 0, 1), b(&process, 1, 2);
    const uint32_t stack = process.Stack();
    // b's events come after a's, but are published first.
    const Event first = a.Begin(Producer::Make(EventKind::kAlloc, 0x1000, 1, stack));
    b.Free(0x1000);
    b.Alloc(0x1000, 2, stack);
    process.DrainAll();
    EXPECT_EQ(process.drain->rings[1].tail, 0u);
    a.Publish(first);
    process.DrainAll();
    EXPECT_EQ(process.drain->rings[1].tail, 2u);
    Replay replay;
    process.FinishAndRead(&replay);
    EXPECT_EQ(replay.unknown_frees, 0u);
    EXPECT_EQ(replay.allocs_over_live, 0u);
    EXPECT_EQ((replay.live[{kHeap, 0x1000}].size), 2u);
  }
}

TEST(DrainTest, AnAbandonedPlaceIsSkippedAndCounted) {
  Process process;
  Producer a(&process, 0, 1), b(&process, 1, 2);
  const uint32_t stack = process.Stack();
  a.Begin(Producer::Make(EventKind::kAlloc, 0x1000, 1, stack));
  b.Alloc(0x1010, 2, stack);
  process.DrainAll();
  EXPECT_EQ(process.drain->rings[1].tail, 0u) << "it may still be filled";
  a.Abandon();
  process.drain->searched_ns = 0;
  process.DrainAll();
  EXPECT_EQ(process.drain->rings[1].tail, 1u);
  EXPECT_EQ(process.journal.header()->losses[static_cast<int>(LossKind::kUnfinished)].load(), 1u);
}

TEST(DrainTest, AThreadThatEndedAbandonsItsPlace) {
  Process process;
  Producer a(&process, 0, 1), b(&process, 1, 2);
  const uint32_t stack = process.Stack();
  a.Begin(Producer::Make(EventKind::kAlloc, 0x1000, 1, stack));
  b.Alloc(0x1010, 2, stack);
  a.Detach();
  process.DrainAll();
  EXPECT_EQ(process.drain->rings[1].tail, 1u);
}

TEST(DrainTest, APlaceHiddenBehindAWaitingEventIsNotSkipped) {
  Process process;
  Producer a(&process, 0, 1), b(&process, 1, 2), c(&process, 2, 3);
  const uint32_t stack = process.Stack();
  // c's place is pending; a waits for it, with the event that b waits for behind.
  const Event pending = c.Begin(Producer::Make(EventKind::kAlloc, 0x1000, 1, stack));
  a.Alloc(0x1010, 2, stack);
  a.Alloc(0x71000, 3, stack);
  b.Free(0x71000);
  ASSERT_NE(HeapShard(0x1000), HeapShard(0x71000));
  process.DrainAll();
  EXPECT_EQ(process.drain->rings[1].tail, 0u);
  c.Publish(pending);
  process.DrainAll();
  EXPECT_EQ(process.drain->rings[0].tail, 2u);
  EXPECT_EQ(process.drain->rings[1].tail, 1u);
  EXPECT_EQ(process.journal.header()->losses[static_cast<int>(LossKind::kUnfinished)].load(), 0u);
}

TEST(DrainTest, APendingPlaceIsGivenUpAfterASecondAndTakenWhenItComes) {
  Process process;
  Producer a(&process, 0, 1), b(&process, 1, 2);
  const uint32_t stack = process.Stack();
  const Event late = a.Begin(Producer::Make(EventKind::kAlloc, 0x1000, 1, stack));
  b.Alloc(0x1010, 2, stack);
  process.DrainAll();
  ASSERT_TRUE(process.drain->watching);
  process.drain->watched_since_ns -= 2'000'000'000;
  process.drain->searched_ns = 0;
  process.DrainAll();
  EXPECT_EQ(process.drain->rings[1].tail, 1u);
  a.Publish(late);
  process.DrainAll();
  EXPECT_EQ(process.drain->rings[0].tail, 1u);
  b.Alloc(0x1020, 3, stack);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.live, SizeIs(3));
  EXPECT_EQ(replay.losses[static_cast<int>(LossKind::kUnfinished)], 1u);
}

TEST(DrainTest, FinishSkipsGaps) {
  Process process;
  Producer a(&process, 0, 1), b(&process, 1, 2);
  const uint32_t stack = process.Stack();
  a.Begin(Producer::Make(EventKind::kAlloc, 0x1000, 1, stack));
  b.Alloc(0x1010, 2, stack);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.live, SizeIs(1));
  EXPECT_EQ(replay.losses[static_cast<int>(LossKind::kUnfinished)], 1u);
}

// ---- Realloc

TEST(DrainTest, ReallocHalvesAcrossBatches) {
  for (const Mode mode : {Mode::kFull, Mode::kSurvivors}) {
    Process process(InMode(mode));
    Producer thread(&process, 0, 1);
    const uint32_t stack = process.Stack();
    thread.Alloc(0x1000, 10, stack);
    process.DrainAll();
    thread.ReallocFree(0x1000);
    process.DrainAll();
    EXPECT_EQ(process.journal.ring(0)->limbo_address, 0x1000u);
    thread.ReallocDone(0x1000, 20, stack);  // in place
    process.DrainAll();
    EXPECT_EQ(process.journal.ring(0)->limbo_address, 0u);
    thread.ReallocFree(0x1000);
    process.DrainAll();
    thread.ReallocFailed(0x1000);
    process.DrainAll();
    thread.Alloc(0x2000, 5, stack);
    thread.ReallocFree(0x2000);
    process.DrainAll();
    thread.ReallocFreed(0x2000);
    thread.Alloc(0x3000, 6, stack);
    thread.ReallocFree(0x3000);
    process.DrainAll();
    thread.Alloc(0x4000, 7, stack);  // any other event: it went through
    process.DrainAll();
    Replay replay;
    process.FinishAndRead(&replay);
    EXPECT_EQ(replay.unknown_frees, 0u);
    EXPECT_EQ(replay.allocs_over_live, 0u);
    EXPECT_THAT(replay.live, SizeIs(2));
    EXPECT_EQ((replay.live[{kHeap, 0x1000}].size), 20u);
    EXPECT_EQ((replay.live[{kHeap, 0x4000}].size), 7u);
    EXPECT_EQ(replay.allocs + replay.Pairs(Domain::kHeap), 5u);
  }
}

TEST(DrainTest, AnotherThreadGetsTheAddressBeforeTheOutcome) {
  for (const Mode mode : {Mode::kFull, Mode::kSurvivors}) {
    for (const bool written_before : {false, true}) {
      Process process(InMode(mode));
      Producer a(&process, 0, 1), b(&process, 1, 2);
      const uint32_t stack = process.Stack();
      a.Alloc(0x1000, 10, stack);
      process.DrainAll();
      if (written_before) process.drain->hand_ns = 0, process.drain->hand_credit = 100;
      a.ReallocFree(0x1000);
      process.DrainAll();
      b.Alloc(0x1000, 11, stack);
      process.DrainAll();
      b.ReallocFree(0x1000);
      process.DrainAll();
      a.ReallocDone(0x2000, 20, stack);
      process.DrainAll();
      b.ReallocFailed(0x1000);
      Replay replay;
      process.FinishAndRead(&replay);
      EXPECT_EQ(replay.unknown_frees, 0u);
      EXPECT_EQ(replay.allocs_over_live, 0u);
      EXPECT_THAT(replay.live, SizeIs(2));
      EXPECT_EQ((replay.live[{kHeap, 0x1000}].size), 11u);
      EXPECT_EQ((replay.live[{kHeap, 0x2000}].size), 20u);
    }
  }
}

TEST(DrainTest, AThreadThatEndsInReallocHasFreed) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Alloc(0x1000, 10, stack);
  thread.ReallocFree(0x1000);
  thread.Detach();
  process.DrainAll();
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.live, IsEmpty());
  EXPECT_EQ(replay.Pairs(Domain::kHeap), 1u);
}

TEST(DrainTest, ABlockWhoseReallocIsOpenAtTheEndCountsAsFreed) {
  for (const Mode mode : {Mode::kFull, Mode::kSurvivors}) {
    Process process(InMode(mode));
    Producer thread(&process, 0, 1);
    thread.Alloc(0x1000, 10, process.Stack());
    thread.ReallocFree(0x1000);
    Replay replay;
    process.FinishAndRead(&replay);
    EXPECT_THAT(replay.live, IsEmpty());
  }
}

TEST(DrainTest, ABlockInLimboIsMarked) {
  Process process;
  Producer thread(&process, 0, 1);
  thread.Alloc(0x1000, 10, process.Stack());
  thread.ReallocFree(0x1000);
  process.DrainAll();
  const BlockEntry& block = *process.journal.block(1);
  EXPECT_EQ(block.address, 0x1000u);
  EXPECT_NE(block.packed & kBlockLimbo, 0u);
  thread.ReallocFailed(0x1000);
  process.DrainAll();
  EXPECT_EQ(block.packed & kBlockLimbo, 0u);
  EXPECT_EQ(EventSize(block.packed), 10u);
}

// ---- Mappings

TEST(DrainTest, MappingsThatDieYoungAreFolded) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Map(0x100000, 8192, stack);
  thread.Map(0x200000, 4096, stack);
  process.DrainAll();
  thread.Unmap(0x100000, 8192);
  process.DrainAll();
  thread.Alloc(0x1000, 1, stack);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_EQ(replay.maps, 1u);
  EXPECT_EQ(replay.unmaps, 0u);
  EXPECT_THAT(replay.pages, SizeIs(1));
  const CountersRecord& counters = replay.counters[{stack, static_cast<uint8_t>(Domain::kMapping)}];
  EXPECT_EQ(counters.pairs, 1u);
  EXPECT_EQ(counters.bytes, 8192u);
  EXPECT_EQ(counters.peak_bytes, 12288u);
}

TEST(DrainTest, AnUnmapThatFailedLeavesTheMapping) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Map(0x100000, 8192, stack);
  thread.Unmap(0x100000, 8192);
  process.DrainAll();
  thread.UnmapFailed(0x100000, 8192);
  process.DrainAll();
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.pages, SizeIs(2));
}

TEST(DrainTest, AMappingOverAPendingUnmapShowsThatItWentThrough) {
  for (const Mode mode : {Mode::kFull, Mode::kSurvivors}) {
    Process process(InMode(mode));
    Producer a(&process, 0, 1), b(&process, 1, 2);
    const uint32_t stack = process.Stack();
    const uint32_t other = process.Stack();
    a.Map(0x100000, 8192, stack);
    a.Unmap(0x100000, 8192);
    b.Map(0x101000, 8192, other);
    process.DrainAll();
    a.Alloc(0x1000, 1, stack);
    Replay replay;
    process.FinishAndRead(&replay);
    EXPECT_THAT(replay.pages, ElementsAre(std::pair(0x101u, other), std::pair(0x102u, other)));
  }
}

TEST(DrainTest, PartsAndReplacementsOfMappings) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  const uint32_t other = process.Stack();
  thread.Map(0x100000, 4 * 4096, stack);
  thread.Unmap(0x101000, 4096);                          // a hole
  thread.Map(0x103000, 2 * 4096, other, 3 | kMapFixed);  // over its end
  thread.Map(0x200000, 4096, stack);
  thread.Map(0x201000, 4096, stack);
  thread.Unmap(0x200000, 8192);  // two at once
  process.DrainAll();
  thread.Alloc(0x1000, 1, stack);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.pages, ElementsAre(std::pair(0x100u, stack), std::pair(0x102u, stack),
                                        std::pair(0x103u, other), std::pair(0x104u, other)));
}

TEST(DrainTest, TheBreakHasItsDomain) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Map(0x100000, 8192, stack, 3, AllocFunction::kBrk);
  thread.Unmap(0x100000, 8192);
  thread.Alloc(0x1000, 1, stack);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_EQ((replay.counters[{stack, static_cast<uint8_t>(Domain::kBreak)}].pairs), 1u);
}

TEST(DrainTest, RandomMappings) {
  for (const Mode mode : {Mode::kFull, Mode::kSurvivors}) {
    Process process(InMode(mode));
    std::vector<std::unique_ptr<Producer>> threads;
    std::vector<uint32_t> stacks;
    for (uint32_t i = 0; i < 100; ++i) {
      threads.push_back(std::make_unique<Producer>(&process, i, i + 1));
      stacks.push_back(process.Stack());
    }
    std::mt19937 random(7);
    std::map<uint64_t, uint32_t> pages;
    for (int i = 0; i < 20000; ++i) {
      Producer& thread = *threads[random() % threads.size()];
      const uint64_t begin = 0x1000 + random() % 4000;
      const uint64_t length = 1 + random() % 8;
      if (random() % 5 < 3) {
        bool free = true;
        for (uint64_t page = begin; page < begin + length; ++page) free &= pages.count(page) == 0;
        const uint32_t stack = stacks[random() % stacks.size()];
        if (!free && random() % 4 != 0) continue;
        thread.Map(begin * 4096, length * 4096, stack, free ? 3 : 3 | kMapFixed);
        for (uint64_t page = begin; page < begin + length; ++page) pages[page] = stack;
      } else {
        thread.Unmap(begin * 4096, length * 4096);
        if (random() % 8 == 0) {
          thread.UnmapFailed(begin * 4096, length * 4096);
        } else {
          for (uint64_t page = begin; page < begin + length; ++page) pages.erase(page);
          // Else a mapping over it by another thread is the race that is taken for done.
          if (random() % 2 == 0) thread.Emit(Producer::Make(EventKind::kNothing, 0x5000));
        }
      }
      if (random() % 50 == 0) process.Batch();
    }
    Replay replay;
    process.FinishAndRead(&replay);
    EXPECT_EQ(replay.pages, pages);
    if (mode == Mode::kSurvivors) {
      EXPECT_GT(replay.Pairs(Domain::kMapping), 100u);
    }
  }
}

// ---- Rings and definitions

TEST(DrainTest, AnOrphanedRingIsFreeAgainWhenItIsEmpty) {
  Process process;
  const uint32_t stack = process.Stack();
  {
    Producer thread(&process, 3, 7);
    thread.Alloc(0x1000, 1, stack);
    thread.Detach();
  }
  process.DrainAll();
  RingEntry* const entry = process.journal.ring(3);
  EXPECT_EQ(entry->state.load(), static_cast<uint32_t>(RingState::kFree));
  EXPECT_EQ(entry->head.load(), entry->tail);
  EXPECT_EQ(entry->thread, 0u);
  // Another thread goes on with the same counts.
  Producer thread(&process, 3, 8);
  thread.Alloc(0x2000, 2, stack);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.ended_threads, ElementsAre(7));
  EXPECT_EQ((replay.live[{kHeap, 0x1000}].thread), 7u);
  EXPECT_EQ((replay.live[{kHeap, 0x2000}].thread), 8u);
}

TEST(DrainTest, QuietRingsAreFoundWhenSomebodyAsks) {
  Process process;
  Producer thread(&process, 9, 1);
  const uint32_t stack = process.Stack();
  thread.Alloc(0x1000, 1, stack);
  process.DrainAll();
  for (int i = 0; i < 100; ++i) process.Batch();
  EXPECT_EQ(process.drain->hot_count, 0u);
  process.drain->scanned_ns = MonotonicNs() + 3'600'000'000'000;  // it has just looked
  thread.Alloc(0x2000, 1, stack);
  EXPECT_EQ(process.Batch(), DrainStatus::kIdle);
  EXPECT_EQ(process.drain->rings[9].tail, 1u);
  process.journal.header()->scan_all.store(1);
  process.Batch();
  EXPECT_EQ(process.drain->rings[9].tail, 2u);
  EXPECT_EQ(process.journal.header()->scan_all.load(), 0u);
}

TEST(DrainTest, AllRingsAtOnce) {
  Process process;
  const uint32_t stack = process.Stack();
  std::vector<std::unique_ptr<Producer>> threads;
  for (uint32_t i = 0; i < kMaxRings; ++i) {
    threads.push_back(std::make_unique<Producer>(&process, i, i + 1));
  }
  uint64_t address = 0x1000;
  for (int round = 0; round < 3; ++round) {
    // The later rings' events come first.
    for (uint32_t i = kMaxRings; i-- > 0;) threads[i]->Alloc(address += 16, 1, stack);
    process.DrainAll();
  }
  for (uint32_t i = 0; i < kMaxRings; ++i) EXPECT_EQ(process.drain->rings[i].tail, 3u);
  for (auto& thread : threads) thread->Detach();
  process.DrainAll();
  EXPECT_EQ(process.drain->hot_count, 0u);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.live, SizeIs(3 * kMaxRings));
  EXPECT_THAT(replay.ended_threads, SizeIs(kMaxRings));
}

TEST(DrainTest, DefinitionsComeBeforeTheirEventsAndWrap) {
  Process process;
  Producer thread(&process, 0, 1);
  const std::string text(997, 'x');
  std::vector<std::string> expected;
  for (int i = 0; i < 2000; ++i) {
    expected.push_back(std::to_string(i) + text);
    while (!process.Define(expected.back())) process.Batch();
    thread.Alloc(0x1000 + 16 * static_cast<uint64_t>(i), 1, process.Stack(1));
  }
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_EQ(replay.messages, expected);
}

TEST(DrainTest, DeepStacksAreCutWhereTheirLimitIs) {
  Process process;
  Producer thread(&process, 0, 1);
  thread.Alloc(0x1000, 1, process.Stack(kMaxStackDepth));
  const uint32_t loop = process.Node(0x1234, 0);
  process.journal.node(loop)->parent = loop;  // a damaged tree
  thread.Alloc(0x2000, 1, loop);
  ASSERT_EQ(DrainFinish(process.drain, EndKind::kExited), DrainStatus::kIdle);
  CloseJournal(&process.journal, true);
  Replay replay;
  ASSERT_TRUE(ReadTrace(process.trace_path, replay).ok());
  EXPECT_THAT(replay.live, SizeIs(2));
  EXPECT_EQ(replay.nodes.size(), kMaxStackDepth + 1u);
}

// ---- Limits

// Random blocks of one thread against a plain map.
void RunRandom(Process* process, int steps, size_t most, bool fold_everything) {
  Producer thread(process, 0, 1);
  std::vector<uint32_t> stacks;
  for (int i = 0; i < 50; ++i) stacks.push_back(process->Stack(2));
  std::mt19937 random(11);
  std::vector<uint64_t> addresses;
  std::map<uint64_t, uint64_t> live;
  uint64_t allocs = 0, bytes = 0;
  Weights weights;
  for (int i = 0; i < steps; ++i) {
    if (addresses.size() < most && random() % 2 == 0) {
      const uint64_t address = 16 * (0x1000 + random() % (4 * most));
      if (live.count(address) != 0) continue;
      const uint64_t size = random() % 1000;
      live[address] = size;
      addresses.push_back(address);
      ++allocs;
      bytes += size;
      weights += WeightOf(size, process->drain->sample_bytes);
      thread.Alloc(address, size, stacks[random() % stacks.size()]);
    } else if (!addresses.empty()) {
      std::swap(addresses[random() % addresses.size()], addresses.back());
      thread.Free(addresses.back());
      live.erase(addresses.back());
      addresses.pop_back();
    }
  }
  Replay replay;
  process->FinishAndRead(&replay);
  EXPECT_EQ(replay.unknown_frees, 0u);
  EXPECT_EQ(replay.allocs_over_live, 0u);
  ASSERT_EQ(replay.live.size(), live.size());
  for (const auto& [key, block] : replay.live) EXPECT_EQ(live[key.second], block.size);
  EXPECT_EQ(replay.allocs + replay.Pairs(Domain::kHeap), allocs);
  EXPECT_EQ(replay.alloc_bytes + replay.PairBytes(Domain::kHeap), bytes);
  if (process->drain->mode == Mode::kSample) {
    EXPECT_TRUE(replay.AllWeights() == weights);
  }
  if (fold_everything) {
    EXPECT_EQ(replay.frees, 0u);
  }
}

TEST(DrainTest, RandomBlocks) {
  Process process;
  RunRandom(&process, 400000, 20000, true);
}

TEST(DrainTest, RandomBlocksOfASample) {
  for (const uint32_t capacity : {0u, 1u, 10u, 1000u}) {
    ProcessOptions options;
    options.mode = Mode::kSample;
    options.sample_bytes = 500;
    options.max_counters = capacity;
    Process process(options);
    RunRandom(&process, 50000, 1000, false);
  }
}

TEST(DrainTest, AFullPoolWritesBlocksOut) {
  for (const uint32_t capacity : {2u, 16u, 1000u}) {
    ProcessOptions options;
    options.pool_capacity = capacity;
    Process process(options);
    RunRandom(&process, 100000, 5000, false);
    EXPECT_LE(process.drain->pool.used(), capacity);
  }
}

TEST(DrainTest, FullCountersLoseNothing) {
  for (const uint32_t capacity : {0u, 1u, 10u}) {
    ProcessOptions options;
    options.max_counters = capacity;
    Process process(options);
    RunRandom(&process, 50000, 1000, false);
  }
}

TEST(DrainTest, WithoutDiskSpaceForThePoolAllIsWritten) {
  Process process;
  // Larger files than this aren't allowed: neither the pool nor the counters can grow.
  struct rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &before), 0);
  const struct rlimit limit = {kNodesOffset + (4u << 20), before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &limit), 0);
  RunRandom(&process, 20000, 1000, false);
  EXPECT_EQ(process.drain->pool.used(), 1u);
  EXPECT_EQ(setrlimit(RLIMIT_FSIZE, &before), 0);
}

TEST(DrainTest, SequenceNumbersWrap) {
  ProcessOptions options;
  options.first_seq = 0xffffff00u;
  Process process(options);
  RunRandom(&process, 100000, 100, true);
  EXPECT_LT(process.drain->expected[HeapShard(16 * 0x1000)], 0x7fffffffu);
}

TEST(DrainTest, OldBlocksLeaveThePool) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  const uint64_t long_ago = MonotonicNs() - 2 * BlockAgeLimitNs(1);
  Event event = Producer::Make(EventKind::kAlloc, 0x1000, 10, stack);
  event.ticks = long_ago;
  thread.Emit(event);
  thread.Alloc(0x2000, 20, stack);
  Event map = Producer::Make(EventKind::kMap, 0x100000, 4096, stack, AllocFunction::kMmap, 3);
  map.ticks = long_ago;
  thread.Emit(map);
  process.DrainAll();
  EXPECT_EQ(process.drain->pool.live(), 2u);
  process.drain->hand_credit = 100;
  process.DrainAll();
  EXPECT_EQ(process.drain->pool.live(), 1u);
  EXPECT_EQ(process.drain->mapping_count, 0u);
  EXPECT_EQ(process.drain->pooled_bytes, 20u);
  thread.Free(0x1000);
  thread.Unmap(0x100000, 4096);
  thread.Free(0x2000);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_THAT(replay.live, IsEmpty());
  EXPECT_THAT(replay.pages, IsEmpty());
  EXPECT_EQ(replay.unknown_frees, 0u);
  EXPECT_EQ(replay.frees, 1u);
  EXPECT_EQ(replay.Pairs(Domain::kHeap), 1u);
}

TEST(DrainTest, PausesWhenAReaderAsks) {
  Process process;
  Producer thread(&process, 0, 1);
  thread.Alloc(0x1000, 1, process.Stack());
  std::atomic<uint64_t>* const until = &process.journal.header()->pause_until;
  // Longer pauses than allowed are none.
  until->store(MonotonicNs() + 3600u * uint64_t{1'000'000'000});
  process.Batch();
  EXPECT_EQ(process.drain->rings[0].tail, 1u);
  DrainStatus status;
  do {
    until->store(MonotonicNs() + kPauseNs / 2);
    status = process.Batch();
  } while (status != DrainStatus::kPaused);
  EXPECT_EQ(status, DrainStatus::kPaused);
}

TEST(DrainTest, WithoutWritingTheStagingSectionFillsUp) {
  Process process(InMode(Mode::kFull));
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  std::mt19937_64 random(1);
  uint64_t events = 0;
  DrainStatus status = DrainStatus::kIdle;
  while (status != DrainStatus::kFull) {
    while (thread.HasRoom())
      thread.Alloc(random() % (1u << 30) * 16, random() % 5000, stack), ++events;
    status = DrainBatch(process.drain, false);
  }
  EXPECT_EQ(process.drain->staging.chunks(), 0u);
  EXPECT_EQ(DrainSample(process.drain, SampleRecord()), DrainStatus::kFull);
  EXPECT_EQ(DrainBatch(process.drain, true), DrainStatus::kProgress);
  EXPECT_EQ(process.drain->staging.chunks(), 1u);
  Replay replay;
  process.FinishAndRead(&replay);
  EXPECT_EQ(replay.allocs, events);
}

TEST(DrainTest, AFailedWriteStopsTheRecording) {
  Process process(InMode(Mode::kFull));
  Producer thread(&process, 0, 1);
  thread.Alloc(0x1000, 1, process.Stack());
  process.DrainAll();
  // The file is out of reach: removed, and its descriptor closed.
  unlink(process.trace_path.c_str());
  close(process.trace.fd);
  EXPECT_EQ(DrainFlush(process.drain), DrainStatus::kFailed);
  EXPECT_EQ(DrainFailure(process.drain), -ENOENT);
  EXPECT_EQ(process.Batch(), DrainStatus::kFailed);
  EXPECT_EQ(DrainFinish(process.drain, EndKind::kExited), DrainStatus::kFailed);
  JournalHeader* const header = process.journal.header();
  EXPECT_EQ(header->state.load(), static_cast<uint32_t>(JournalState::kStopped));
  EXPECT_EQ(header->undo_count.load(), 0u);
  EXPECT_GT(header->staged_bytes, 0u) << "what was staged stays part of the trace";
  EXPECT_EQ(header->trace_end, 0u);
}

TEST(DrainTest, SamplesCarryTheDrainsOwnFigures) {
  Process process;
  Producer thread(&process, 0, 1);
  const uint32_t stack = process.Stack();
  thread.Alloc(0x1000, 100, stack);
  thread.Alloc(0x2000, 50, stack);
  thread.Free(0x1000);
  process.DrainAll();
  SampleRecord sample;
  sample.time_ns = 5;
  sample.threads = 3;
  EXPECT_EQ(DrainSample(process.drain, sample), DrainStatus::kIdle);
  process.journal.header()->losses[0].store(9);
  sample.tracer_bytes = 7;
  EXPECT_EQ(DrainSample(process.drain, sample), DrainStatus::kIdle);
  Replay replay;
  process.FinishAndRead(&replay);
  ASSERT_THAT(replay.samples, SizeIs(2));
  EXPECT_EQ(replay.samples[0].threads, 3u);
  EXPECT_EQ(replay.samples[0].pooled_bytes, 50u);
  EXPECT_EQ(replay.samples[0].pooled_blocks, 1u);
  EXPECT_EQ(replay.samples[0].pooled_peak_bytes, 150u);
  EXPECT_EQ(replay.samples[1].pooled_peak_bytes, 50u);
  EXPECT_GT(replay.samples[0].tracer_bytes, 500'000u);
  EXPECT_NE(replay.samples[0].tracer_cpu_ns, kUnknownGauge);
  EXPECT_EQ(replay.samples[1].tracer_bytes, 7u);
  EXPECT_EQ(replay.losses[0], 9u);
}

TEST(DrainTest, AFlushMakesTheTraceReadable) {
  Process process;
  Producer thread(&process, 0, 1);
  thread.Free(0x1000);
  process.DrainAll();
  EXPECT_EQ(DrainFlush(process.drain), DrainStatus::kIdle);
  EXPECT_EQ(DrainFlush(process.drain), DrainStatus::kIdle) << "nothing to write";
  EXPECT_EQ(process.drain->staging.chunks(), 1u);
  EXPECT_EQ(process.journal.header()->trace_end, process.drain->staging.trace_end());
}

}  // namespace
}  // namespace ollamatrace
