// The drain under producers of several threads, which hand blocks and mappings to each other.

#include <gmock/gmock.h>

#include <array>
#include <atomic>
#include <random>
#include <thread>
#include <vector>

#include "preload/drain/drain_fixture.h"

namespace ollamatrace {
namespace {

#if defined(__SANITIZE_THREAD__)
constexpr int kOperations = 50'000;
#elif defined(__SANITIZE_ADDRESS__)
constexpr int kOperations = 200'000;
#else
constexpr int kOperations = 800'000;
#endif
constexpr uint32_t kThreads = 4;
constexpr uint32_t kLife = 20'000;  // operations of one thread before another takes its place
constexpr uint32_t kBlocks = 3000;
constexpr uint32_t kMappings = 64;

enum Slot : uint8_t { kFree, kTaken, kLive };

// An allocator with the outer behaviour of a real one: an address is given out after it was freed,
// by whatever thread, and events are made where the hooks make them.
class World {
 public:
  explicit World(const ProcessOptions& options) : process_(options) {
    for (uint32_t& stack : stacks_) stack = process_.Stack(4);
  }

  void Run() {
    std::atomic<bool> stop{false};
    std::thread drainer([&] {
      while (!stop.load()) {
        if (process_.Batch() == DrainStatus::kIdle) std::this_thread::yield();
      }
    });
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < kThreads; ++i) threads.emplace_back([this, i] { Work(i); });
    for (std::thread& thread : threads) thread.join();
    stop.store(true);
    drainer.join();
    Check();
  }

  // The segment in whose place the last checkpoint came.
  uint32_t checkpoint() const { return process_.drain->segments.checkpoint.number; }

 private:
  static uint64_t BlockAddress(uint32_t slot) { return 0x7f0000000000 + uint64_t{slot} * 48; }
  static uint64_t MappingAddress(uint32_t slot) { return 0x7e0000000000 + uint64_t{slot} * 16384; }
  static bool Take(std::atomic<uint8_t>* slot, Slot from) {
    uint8_t expected = from;
    return slot->compare_exchange_strong(expected, kTaken);
  }

  std::unique_ptr<Producer> Attach() {
    while (true) {
      for (uint32_t ring = 0; ring < 3 * kThreads; ++ring) {
        // Small rings, too.
        const uint32_t number = kLargeRings - 4 + ring;
        uint32_t expected = static_cast<uint32_t>(RingState::kFree);
        if (process_.journal.ring(number)->state.compare_exchange_strong(
                expected, static_cast<uint32_t>(RingState::kAttached))) {
          return std::make_unique<Producer>(&process_, number, next_thread_.fetch_add(1));
        }
      }
      process_.Batch();
    }
  }

  void Work(uint32_t seed) {
    std::mt19937 random(seed);
    std::unique_ptr<Producer> thread;
    for (int i = 0; i < kOperations; ++i) {
      if (i % kLife == 0) {
        if (thread != nullptr) thread->Detach();
        thread = Attach();
      }
      if (random() % 64 == 0) {
        OneMapping(thread.get(), random);
      } else {
        OneBlock(thread.get(), random);
      }
    }
    thread->Detach();
  }

  void OneBlock(Producer* thread, std::mt19937& random) {
    const uint32_t slot = random() % kBlocks;
    if (Take(&blocks_[slot], kFree)) {
      NewBlock(thread, slot, random, EventKind::kAlloc);
    } else if (Take(&blocks_[slot], kLive)) {
      if (random() % 4 == 0) {
        Realloc(thread, slot, random);
      } else {
        thread->Free(BlockAddress(slot));
        blocks_[slot].store(kFree);
      }
    }
  }

  void NewBlock(Producer* thread, uint32_t slot, std::mt19937& random, EventKind kind) {
    sizes_[slot] = random() % 5000;
    allocs_.fetch_add(1, std::memory_order_relaxed);
    bytes_.fetch_add(sizes_[slot], std::memory_order_relaxed);
    thread->Emit(
        Producer::Make(kind, BlockAddress(slot), sizes_[slot], stacks_[random() % stacks_.size()]));
    blocks_[slot].store(kLive);
  }

  void Realloc(Producer* thread, uint32_t slot, std::mt19937& random) {
    thread->ReallocFree(BlockAddress(slot));
    switch (random() % 4) {
      case 0:
        thread->ReallocFailed(BlockAddress(slot));
        blocks_[slot].store(kLive);
        return;
      case 1:  // in place
        NewBlock(thread, slot, random, EventKind::kReallocDone);
        return;
      case 2:
        blocks_[slot].store(kFree);
        thread->ReallocFreed(BlockAddress(slot));
        return;
      default: {
        // Others may have the old address before the new block's event.
        blocks_[slot].store(kFree);
        uint32_t fresh = random() % kBlocks;
        while (!Take(&blocks_[fresh], kFree)) fresh = random() % kBlocks;
        NewBlock(thread, fresh, random, EventKind::kReallocDone);
      }
    }
  }

  void OneMapping(Producer* thread, std::mt19937& random) {
    const uint32_t slot = random() % kMappings;
    if (Take(&mappings_[slot], kFree)) {
      thread->Map(MappingAddress(slot), 16384, stacks_[0]);
      mappings_[slot].store(kLive);
    } else if (Take(&mappings_[slot], kLive)) {
      thread->Unmap(MappingAddress(slot), 16384);
      if (random() % 4 == 0) {
        thread->UnmapFailed(MappingAddress(slot), 16384);
        mappings_[slot].store(kLive);
      } else {
        mappings_[slot].store(kFree);
      }
    }
  }

  void Check() {
    Replay replay;
    process_.FinishAndRead(&replay);
    EXPECT_EQ(replay.unknown_frees, 0u);
    EXPECT_EQ(replay.allocs_over_live, 0u);
    uint64_t live = 0;
    for (uint32_t slot = 0; slot < kBlocks; ++slot) {
      const auto found = replay.live.find({0, BlockAddress(slot)});
      EXPECT_EQ(found != replay.live.end(), blocks_[slot].load() == kLive) << slot;
      if (found == replay.live.end()) continue;
      EXPECT_EQ(found->second.size, sizes_[slot]) << slot;
      ++live;
    }
    EXPECT_EQ(replay.live.size(), live);
    for (uint32_t slot = 0; slot < kMappings; ++slot) {
      EXPECT_EQ(replay.pages.count(MappingAddress(slot) / 4096), mappings_[slot].load() == kLive);
    }
    EXPECT_EQ(replay.allocs + replay.Pairs(Domain::kHeap), allocs_.load());
    EXPECT_EQ(replay.alloc_bytes + replay.PairBytes(Domain::kHeap), bytes_.load());
    EXPECT_EQ(replay.losses[static_cast<int>(LossKind::kUnfinished)], 0u);
    EXPECT_EQ(replay.ended_threads.size() + 1, next_thread_.load());
  }

  Process process_;
  std::array<uint32_t, 20> stacks_;
  std::array<std::atomic<uint8_t>, kBlocks> blocks_ = {};
  std::array<uint64_t, kBlocks> sizes_ = {};
  std::array<std::atomic<uint8_t>, kMappings> mappings_ = {};
  std::atomic<uint64_t> allocs_{0}, bytes_{0};
  std::atomic<uint32_t> next_thread_{1};
};

TEST(DrainThreadsTest, Survivors) { World(ProcessOptions()).Run(); }

TEST(DrainThreadsTest, Full) {
  ProcessOptions options;
  options.mode = Mode::kFull;
  World(options).Run();
}

TEST(DrainThreadsTest, SmallPoolAndCountersAndWrappingPlaces) {
  ProcessOptions options;
  options.pool_capacity = 500;
  options.max_counters = 10;
  options.first_seq = 0xfffffff0u;
  World(options).Run();
}

// Each drops old segments all the time.
void RunWithinALimit(Mode mode) {
  ProcessOptions options;
  options.mode = mode;
  options.sample_bytes = mode == Mode::kSample ? 300 : 0;
  options.pool_capacity = 500;
  options.max_bytes = kMinTraceBytes;
  World world(options);
  world.Run();
  EXPECT_GT(world.checkpoint(), 0u);
}

TEST(DrainThreadsTest, SurvivorsWithinALimit) { RunWithinALimit(Mode::kSurvivors); }
TEST(DrainThreadsTest, FullWithinALimit) { RunWithinALimit(Mode::kFull); }
TEST(DrainThreadsTest, SampleWithinALimit) { RunWithinALimit(Mode::kSample); }

}  // namespace
}  // namespace ollamatrace
