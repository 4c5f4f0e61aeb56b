#include "preload/capture/sampled_blocks.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <random>
#include <set>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

class SampledBlocksTest : public ::testing::Test {
 protected:
  SampledBlocksTest() : blocks_(std::make_unique<SampledBlocks>()) {
    bytes_ = SampledBlocks::TableBytes();
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    blocks_->Init(memory_);
  }
  ~SampledBlocksTest() override { munmap(memory_, bytes_); }

  static const void* At(uint64_t address) { return reinterpret_cast<const void*>(address); }
  // What free asks.
  bool Take(uint64_t address) {
    return blocks_->MayContain(At(address)) && blocks_->Remove(At(address));
  }

  std::unique_ptr<SampledBlocks> blocks_;
  void* memory_;
  size_t bytes_;
};

TEST_F(SampledBlocksTest, EqualsASet) {
  std::set<uint64_t> model;
  std::mt19937_64 random(1);
  // Few addresses, so that they come back; some of them in the same cells and pages.
  std::vector<uint64_t> addresses;
  for (int i = 0; i < 20'000; ++i) {
    const uint64_t heap = 0x555500000000 + random() % 4096 * 16;
    const uint64_t spread = 0x7f0000000000 + (random() % (1 << 24)) * 16;
    const uint64_t paged = 0x7e0000000010 + random() % 65536 * 4096;
    addresses.push_back(i % 3 == 0 ? heap : i % 3 == 1 ? spread : paged);
  }
  for (int i = 0; i < 3'000'000; ++i) {
    // Waves, so that the table fills and empties.
    const bool adds = random() % 8 < (i / 200'000 % 2 == 0 ? 6u : 2u);
    const uint64_t address = addresses[random() % addresses.size()];
    if (adds) {
      ASSERT_TRUE(blocks_->Add(At(address)));
      model.insert(address);
    } else {
      ASSERT_EQ(Take(address), model.erase(address) != 0) << i;
    }
  }
  ASSERT_GT(model.size(), 1000u);
  for (const uint64_t address : addresses) {
    ASSERT_EQ(Take(address), model.erase(address) != 0);
  }
  // No counter is left over.
  for (const uint64_t address : addresses) EXPECT_FALSE(blocks_->MayContain(At(address)));
}

TEST_F(SampledBlocksTest, NullIsNotThere) {
  EXPECT_FALSE(blocks_->MayContain(nullptr));
  EXPECT_FALSE(blocks_->Remove(nullptr));
}

// Two blocks of 32 bytes often lie in the same 64.
TEST_F(SampledBlocksTest, NeighboursAreToldApart) {
  ASSERT_TRUE(blocks_->Add(At(0x5000)));
  EXPECT_TRUE(blocks_->MayContain(At(0x5020)));
  EXPECT_FALSE(Take(0x5020));
  ASSERT_TRUE(blocks_->Add(At(0x5020)));
  EXPECT_TRUE(Take(0x5000));
  EXPECT_FALSE(Take(0x5000));
  EXPECT_TRUE(Take(0x5020));
  EXPECT_FALSE(blocks_->MayContain(At(0x5000)));
}

TEST_F(SampledBlocksTest, ASuspectStaysOne) {
  blocks_->Suspect(At(0x5000));
  EXPECT_TRUE(blocks_->MayContain(At(0x5000)));
  EXPECT_FALSE(Take(0x5000));
  ASSERT_TRUE(blocks_->Add(At(0x5010)));
  EXPECT_TRUE(Take(0x5010));
  EXPECT_TRUE(blocks_->MayContain(At(0x5000)));
  blocks_->Clear();
  EXPECT_TRUE(blocks_->MayContain(At(0x5000)));
}

TEST_F(SampledBlocksTest, AddingTwiceIsAddingOnce) {
  EXPECT_TRUE(blocks_->Add(At(0x5000)));
  EXPECT_TRUE(blocks_->Add(At(0x5000)));
  EXPECT_TRUE(Take(0x5000));
  EXPECT_FALSE(blocks_->MayContain(At(0x5000)));
}

TEST_F(SampledBlocksTest, WhatFindsNoRoomIsNotThereAndAllElseIs) {
  std::mt19937_64 random(2);
  std::vector<uint64_t> added, refused;
  for (uint64_t i = 0; i < 3'000'000; ++i) {
    const uint64_t address = 0x10000 + i * 48;
    (blocks_->Add(At(address)) ? added : refused).push_back(address);
  }
  EXPECT_GT(added.size(), 1'500'000u);
  ASSERT_GT(refused.size(), 0u);
  for (const uint64_t address : refused) ASSERT_FALSE(blocks_->Remove(At(address)));
  for (const uint64_t address : added) ASSERT_TRUE(Take(address));
  for (const uint64_t address : added) ASSERT_FALSE(Take(address));
  // All of the room is there again.
  size_t again = 0;
  for (uint64_t i = 0; i < 3'000'000; ++i) again += blocks_->Add(At(0x10000 + i * 48));
  EXPECT_EQ(again, added.size());
}

// Addresses that differ above bit 37 share a cell: more of them than its counter can tell.
TEST_F(SampledBlocksTest, AFullCounterMissesNothing) {
  const auto address = [](uint64_t i) { return 0x123450 + (i << 38); };
  for (uint64_t i = 0; i < 400; ++i) ASSERT_TRUE(blocks_->Add(At(address(i))));
  for (uint64_t i = 0; i < 400; ++i) ASSERT_TRUE(Take(address(i))) << i;
  for (uint64_t i = 0; i < 400; ++i) ASSERT_FALSE(Take(address(i))) << i;
  for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(blocks_->Add(At(address(i))));
  for (uint64_t i = 0; i < 10; ++i) ASSERT_TRUE(Take(address(i))) << i;
}

TEST_F(SampledBlocksTest, ClearsAndBeginsAgain) {
  for (uint64_t i = 1; i < 5000; ++i) blocks_->Add(At(i * 4096 + 16));
  blocks_->Clear();
  for (uint64_t i = 1; i < 5000; ++i) ASSERT_FALSE(blocks_->MayContain(At(i * 4096 + 16)));
  madvise(memory_, bytes_, MADV_DONTNEED);
  blocks_->Init(memory_);
  EXPECT_TRUE(blocks_->Add(At(0x5000)));
  EXPECT_FALSE(blocks_->Remove(At(4096 + 16)));
  EXPECT_TRUE(Take(0x5000));
}

// Blocks go from thread to thread; whoever has one takes it out, and gives its address away, as an
// allocator does. Each address that was added is found by whoever frees it, and no other is.
TEST_F(SampledBlocksTest, Threads) {
  constexpr int kThreads = 4;
  constexpr uint64_t kAddresses = 3000;
  std::mutex lock;
  std::deque<uint64_t> free_addresses;          // the allocator's
  std::deque<std::pair<uint64_t, bool>> owned;  // address, whether it was added
  for (uint64_t i = 0; i < kAddresses; ++i) free_addresses.push_back(0x400000 + i * 16);
  std::atomic<uint64_t> wrong{0}, found{0};
  const auto work = [&](uint64_t seed) {
    std::mt19937_64 random(seed);
    for (int i = 0; i < 200'000; ++i) {
      if (random() % 2 == 0) {
        uint64_t address;
        {
          const std::lock_guard<std::mutex> hold(lock);
          if (free_addresses.empty()) continue;
          address = free_addresses.front();
          free_addresses.pop_front();
        }
        const bool drawn = random() % 3 == 0;
        if (drawn && !blocks_->Add(At(address))) ++wrong;
        const std::lock_guard<std::mutex> hold(lock);
        owned.emplace_back(address, drawn);
      } else {
        std::pair<uint64_t, bool> block;
        {
          const std::lock_guard<std::mutex> hold(lock);
          if (owned.empty()) continue;
          const size_t place = random() % owned.size();
          block = owned[place];
          owned[place] = owned.back();
          owned.pop_back();
        }
        if (Take(block.first) != block.second) ++wrong;
        found += block.second;
        const std::lock_guard<std::mutex> hold(lock);
        free_addresses.push_back(block.first);
      }
    }
  };
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(work, static_cast<uint64_t>(i) + 1);
  for (std::thread& thread : threads) thread.join();
  for (const auto& [address, drawn] : owned) {
    if (Take(address) != drawn) ++wrong;
  }
  EXPECT_EQ(wrong, 0u);
  EXPECT_GT(found, 10'000u);
  for (uint64_t i = 0; i < kAddresses; ++i) {
    EXPECT_FALSE(blocks_->MayContain(At(0x400000 + i * 16)));
  }
}

}  // namespace
}  // namespace ollamatrace
