#include "preload/drain/memory_map_sampler.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <thread>

#include "formats/memory_map.h"
#include "preload/base/clock.h"
#include "preload/base/own_memory.h"

namespace ollamatrace {
namespace {

class MemoryMapSamplerTest : public testing::Test {
 protected:
  ~MemoryMapSamplerTest() override { CloseMemoryMap(&context_); }

  MemoryMap Look() {
    BeginMemoryMap(&context_, MonotonicNs());
    MapStep step;
    while ((step = StepMemoryMap(&context_)) == MapStep::kMore) {
    }
    EXPECT_EQ(step, MapStep::kDone);
    const absl::StatusOr<MemoryMap> map = DecodeMemoryMap(
        1, 4096, {reinterpret_cast<const char*>(buffers_->body), context_.body_size});
    EXPECT_TRUE(map.ok()) << map.status();
    return map.ok() ? *map : MemoryMap();
  }
  static const MemoryArea* At(const MemoryMap& map, const void* address) {
    const uint64_t at = reinterpret_cast<uint64_t>(address);
    for (const MemoryArea& area : map.areas) {
      if (at >= area.begin && at < area.end) return &area;
    }
    return nullptr;
  }

  std::unique_ptr<MemoryMapBuffers> buffers_ = std::make_unique<MemoryMapBuffers>();
  MemoryMapContext context_{buffers_.get()};
};

TEST_F(MemoryMapSamplerTest, KnowsEachPageThatIsInMemory) {
  constexpr size_t kPages = 5000;  // more than one read of pagemap
  char* const memory = static_cast<char*>(
      mmap(nullptr, kPages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  madvise(memory, kPages * 4096, MADV_NOHUGEPAGE);
  for (const size_t page : {0, 1, 7, 2047, 2048, 2049, 4999}) memory[page * 4096] = 1;
  const char zero = *static_cast<volatile char*>(memory + 3000 * 4096);  // the page of zeros
  EXPECT_EQ(zero, 0);
  const MemoryMap map = Look();
  const MemoryArea* const area = At(map, memory);
  ASSERT_NE(area, nullptr);
  ASSERT_TRUE(area->runs_known);
  std::vector<size_t> pages;
  for (const PageRun& run : area->runs) {
    for (uint64_t at = run.begin; at < run.end; at += 4096) {
      const uint64_t begin = reinterpret_cast<uint64_t>(memory);
      if (at >= begin && at < begin + kPages * 4096) pages.push_back((at - begin) / 4096);
    }
  }
  EXPECT_EQ(pages, (std::vector<size_t>{0, 1, 7, 2047, 2048, 2049, 4999}));
  munmap(memory, kPages * 4096);
}

TEST_F(MemoryMapSamplerTest, TellsFilesStacksAndHeap) {
  const MemoryMap map = Look();
  bool heap = false, stack = false, file = false;
  for (const MemoryArea& area : map.areas) {
    heap |= area.kind == AreaKind::kHeap;
    stack |= area.kind == AreaKind::kStack && area.rss > 0;
    file |=
        area.kind == AreaKind::kFile && area.name.find("memory_map_sampler_test") != area.name.npos;
  }
  EXPECT_TRUE(stack);
  EXPECT_TRUE(file);
  EXPECT_TRUE(heap);
  EXPECT_EQ(map.rest_rss, 0u);
}

// An address within a thread's control block, at the top of its stack.
TEST_F(MemoryMapSamplerTest, FindsThreads) {
  std::atomic<bool> done{false};
  std::atomic<const void*> local{nullptr};
  std::thread thread([&] {
    const int on_stack = 0;
    local = &on_stack;
    while (!done) usleep(1000);
  });
  while (local == nullptr) usleep(1000);
  const MemoryMap map = Look();
  const MemoryArea* const stack = At(map, local);
  ASSERT_NE(stack, nullptr);
  EXPECT_TRUE(std::any_of(map.threads.begin(), map.threads.end(), [&](uint64_t address) {
    return address > reinterpret_cast<uint64_t>(local.load()) && address < stack->end;
  }));
  done = true;
  thread.join();
}

TEST_F(MemoryMapSamplerTest, FindsTheHeapsOfArenas) {
  uint64_t block = 0;
  std::thread([&] { block = reinterpret_cast<uint64_t>(malloc(100)); }).join();
  const MemoryMap map = Look();
  const uint64_t heap = block & ~(kArenaHeapBytes - 1);
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
  EXPECT_TRUE(std::any_of(map.heaps.begin(), map.heaps.end(),
                          [&](const ArenaHeap& found) { return found.address == heap; }));
#endif
  for (const ArenaHeap& found : map.heaps) EXPECT_EQ(found.address % kArenaHeapBytes, 0u);
  free(reinterpret_cast<void*>(block));
}

TEST_F(MemoryMapSamplerTest, KnowsItsOwn) {
  void* const memory = MapOwn(1 << 20);
  const MemoryMap map = Look();
  EXPECT_TRUE(std::any_of(map.own.begin(), map.own.end(), [&](const PageRun& own) {
    return own.begin == reinterpret_cast<uint64_t>(memory) && own.end == own.begin + (1 << 20);
  }));
}

TEST_F(MemoryMapSamplerTest, IsRareAndFollowsTheMemory) {
  constexpr uint64_t kSecond = 1'000'000'000;
  const uint64_t start = MonotonicNs();
  EXPECT_TRUE(MemoryMapIsDue(&context_, start, 100 << 20));
  Look();
  EXPECT_FALSE(MemoryMapIsDue(&context_, start + 3 * kSecond, 100 << 20));
  context_.not_before_ns = 0;
  EXPECT_TRUE(MemoryMapIsDue(&context_, start + 6 * kSecond, 120 << 20));
  Look();
  context_.not_before_ns = 0;
  EXPECT_FALSE(MemoryMapIsDue(&context_, start + 9 * kSecond, 121 << 20));
  EXPECT_TRUE(MemoryMapIsDue(&context_, start + 100 * kSecond, 121 << 20));
}

TEST_F(MemoryMapSamplerTest, WaitsAHundredTimesWhatALookCosts) {
  Look();
  const uint64_t cost = context_.cost_ns;
  EXPECT_GT(cost, 0u);
  EXPECT_GE(context_.not_before_ns, context_.begin_ns + 100 * cost);
}

TEST_F(MemoryMapSamplerTest, SaysThatItCannotRead) {
  context_.proc = "/nonexistent";
  BeginMemoryMap(&context_, MonotonicNs());
  EXPECT_EQ(StepMemoryMap(&context_), MapStep::kFailed);
  EXPECT_EQ(StepMemoryMap(&context_), MapStep::kIdle);
}

TEST_F(MemoryMapSamplerTest, AClosedDescriptorEndsTheLook) {
  BeginMemoryMap(&context_, MonotonicNs());
  close(context_.smaps.fd);
  EXPECT_EQ(StepMemoryMap(&context_), MapStep::kFailed);
}

}  // namespace
}  // namespace ollamatrace
