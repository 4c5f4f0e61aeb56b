#include "preload/capture/stack_table.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "preload/capture/modules.h"

namespace ollamatrace {
namespace {

class StackTableTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::string path = ::testing::TempDir() + "/stack_table_test.journal";
    unlink(path.c_str());
    for (auto& word : journal_.reserved) word.store(0);  // of the test before
    ASSERT_EQ(CreateJournal(&journal_, path.c_str()), 0);
    journal_.header()->next_node.store(1);
    memory_ = mmap(nullptr, StackTable::Bytes(), PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    ASSERT_NE(memory_, MAP_FAILED);
    table_.Init(&journal_, memory_);
  }
  void TearDown() override {
    munmap(memory_, StackTable::Bytes());
    CloseJournal(&journal_, true);
  }

  uint32_t Intern(const std::vector<uintptr_t>& pcs, int unchanged = 0) {
    bool complete = false;
    const StackId id =
        table_.Intern(&memo_, pcs.data(), static_cast<int>(pcs.size()), unchanged, &complete);
    EXPECT_TRUE(complete);
    return static_cast<uint32_t>(id);
  }
  // The program counters of a stack, innermost first, as a reader finds them.
  std::vector<uintptr_t> Stored(uint32_t id) {
    std::vector<uintptr_t> pcs;
    for (; id != 0; id = journal_.node(id)->parent) {
      const StackNode& node = *journal_.node(id);
      pcs.push_back(node.address | ((node.module & kNodeExact) != 0 ? kExactPc : 0));
    }
    return pcs;
  }
  uint32_t Nodes() { return journal_.header()->next_node.load() - 1; }

  static Journal journal_;
  static StackTable table_;
  StackMemo memo_ = {};
  void* memory_ = nullptr;
};
Journal StackTableTest::journal_;
StackTable StackTableTest::table_;

TEST_F(StackTableTest, EqualStacksAreOneAndShareTheirOuterFrames) {
  const uint32_t a = Intern({0x30, 0x20, 0x10});
  const uint32_t b = Intern({0x40, 0x20, 0x10});
  EXPECT_NE(a, b);
  EXPECT_EQ(Intern({0x30, 0x20, 0x10}), a);
  EXPECT_EQ(Nodes(), 4u);
  EXPECT_EQ(Stored(a), (std::vector<uintptr_t>{0x30, 0x20, 0x10}));
  EXPECT_EQ(Stored(b), (std::vector<uintptr_t>{0x40, 0x20, 0x10}));
  // The order counts, and so does the depth.
  EXPECT_NE(Intern({0x10, 0x20, 0x30}), a);
  EXPECT_NE(Intern({0x20, 0x10}), a);
}

TEST_F(StackTableTest, UnchangedFramesAreTakenFromTheMemo) {
  const uint32_t a = Intern({0x30, 0x20, 0x10});
  // Only the innermost frame is looked at: a wrong outer one shows that it is not.
  EXPECT_EQ(Intern({0x30, 0x99, 0x99}, 2), a);
  EXPECT_EQ(Stored(Intern({0x50, 0x40, 0x99, 0x99}, 2)),
            (std::vector<uintptr_t>{0x50, 0x40, 0x20, 0x10}));
  // More than was there last time is never believed.
  memo_ = {};
  EXPECT_EQ(Stored(Intern({0x70, 0x60}, 2)), (std::vector<uintptr_t>{0x70, 0x60}));
}

TEST_F(StackTableTest, ExactAddressesAreNotReturnAddresses) {
  const uint32_t a = Intern({0x30, 0x20});
  const uint32_t b = Intern({0x30, 0x20 | kExactPc});
  EXPECT_NE(a, b);
  EXPECT_EQ(Stored(b), (std::vector<uintptr_t>{0x30, 0x20 | kExactPc}));
}

TEST_F(StackTableTest, NodesOfUnloadedModulesAreNotFoundAgain) {
  const uintptr_t root = 0x7000;
  const uint32_t a = Intern({0x30, 0x20, root});
  const uint32_t other = Intern({0x30, 0x20, 0x10});
  EXPECT_EQ(Intern({0x30, 0x20, root}), a);
  CountUnload(root & ~uintptr_t{0xfff}, root + 0x1000);
  g_modules_generation.fetch_add(1);
  const uint32_t b = Intern({0x30, 0x20, root}, 3);
  EXPECT_NE(a, b);
  EXPECT_EQ(Stored(b), Stored(a));
  EXPECT_EQ(Intern({0x30, 0x20, 0x10}), other);  // which has nothing to do with it
  CountUnload(root & ~uintptr_t{0xfff}, root + 0x1000);
  g_modules_generation.fetch_add(1);
  EXPECT_NE(Intern({0x30, 0x20, root}), b);
}

TEST_F(StackTableTest, EmptyStackIsNone) { EXPECT_EQ(Intern({}), 0u); }

// The table of stacks seen forgets, and takes no stack for another, be it large or small.
TEST_F(StackTableTest, SeenStacksAreThemselvesOrForgotten) {
  for (const uint32_t lines : {StackTable::kSeenLines, StackTable::kFewSeenLines}) {
    memset(memory_, 0, StackTable::Bytes());
    table_.Init(&journal_, memory_, lines);
    std::mt19937_64 random(lines);
    std::vector<uint64_t> fingerprints(20'000);
    uint32_t forgotten = 0;
    for (uint32_t i = 0; i < fingerprints.size(); ++i) {
      fingerprints[i] = random();
      table_.Remember(fingerprints[i], StackId{i + 1});
      ASSERT_EQ(table_.Find(fingerprints[i]), StackId{i + 1});
    }
    for (uint32_t i = 0; i < fingerprints.size(); ++i) {
      const StackId found = table_.Find(fingerprints[i]);
      forgotten += found == StackId{};
      ASSERT_TRUE(found == StackId{i + 1} || found == StackId{}) << i;
      ASSERT_EQ(table_.Find(random()), StackId{});
    }
    const uint32_t places = lines * StackIdLine::kWords;
    EXPECT_LT(forgotten, fingerprints.size() - std::min<size_t>(places, fingerprints.size()) / 2);
  }
}

TEST_F(StackTableTest, ManyStacksThroughAllLevels) {
  constexpr uintptr_t kStacks = 600000;
  std::vector<uint32_t> ids;
  for (uintptr_t i = 0; i < kStacks; ++i) ids.push_back(Intern({i * 16 + 16, 0x10}));
  EXPECT_EQ(Nodes(), kStacks + 1);
  EXPECT_EQ(std::set<uint32_t>(ids.begin(), ids.end()).size(), kStacks);
  for (uintptr_t i = 0; i < kStacks; i += 997) {
    EXPECT_EQ(Intern({i * 16 + 16, 0x10}), ids[i]);
    EXPECT_EQ(Stored(ids[i]), (std::vector<uintptr_t>{i * 16 + 16, 0x10}));
  }
}

TEST_F(StackTableTest, AFullTableLeavesOutInnerFrames) {
  const uint32_t root = Intern({0x10});
  journal_.header()->next_node.store(kMaxNodes);
  const uintptr_t pcs[] = {0x30, 0x20, 0x10};
  bool complete = true;
  EXPECT_EQ(static_cast<uint32_t>(table_.Intern(&memo_, pcs, 3, 0, &complete)), root);
  EXPECT_FALSE(complete);
  EXPECT_EQ(journal_.header()->next_node.load(), kMaxNodes);
}

TEST_F(StackTableTest, ThreadsAgreeOnIds) {
  constexpr int kThreads = 4;
  constexpr uintptr_t kStacks = 5000;
  std::vector<std::vector<uint32_t>> ids(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&ids, t] {
      StackMemo memo = {};
      for (uintptr_t i = 0; i < kStacks; ++i) {
        const uintptr_t pcs[] = {i * 16 + 16, (i % 64) * 16 + 8, 0x10};
        bool complete;
        ids[t].push_back(static_cast<uint32_t>(table_.Intern(&memo, pcs, 3, 0, &complete)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (int t = 1; t < kThreads; ++t) EXPECT_EQ(ids[t], ids[0]);
}

}  // namespace
}  // namespace ollamatrace
