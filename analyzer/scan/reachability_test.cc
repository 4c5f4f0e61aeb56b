#include "analyzer/scan/reachability.h"

#include <map>
#include <vector>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

// A memory of a few words.
class ReachabilityTest : public testing::Test {
 protected:
  void Block(uint64_t address, uint64_t size) { blocks_.push_back({address, size}); }
  void Word(uint64_t address, uint64_t value) { words_[address] = value; }
  void Root(uint64_t begin, uint64_t end, bool exact_only = false) {
    roots_.push_back({begin, end, exact_only});
  }
  std::vector<Reach> Find(const std::vector<uint64_t>& registers = {}) {
    return FindReachable(blocks_, roots_, registers,
                         [this](uint64_t begin, uint64_t end, const WordVisitor& visit) {
                           std::vector<uint64_t> piece;
                           for (uint64_t at = begin; at < end; at += 8) {
                             const auto it = words_.find(at);
                             piece.push_back(it == words_.end() ? 0 : it->second);
                           }
                           visit(piece);
                         });
  }

  static constexpr Reach kDefinitely = Reach::kDefinitelyLost;
  static constexpr Reach kIndirectly = Reach::kIndirectlyLost;
  static constexpr Reach kPossibly = Reach::kPossiblyLost;
  static constexpr Reach kReachable = Reach::kReachable;
  std::vector<ScanBlock> blocks_;
  std::vector<RootRange> roots_;
  std::map<uint64_t, uint64_t> words_;
};

using Reaches = std::vector<Reach>;

TEST_F(ReachabilityTest, FollowsPointersFromRootsAndRegisters) {
  Block(0x1000, 64);
  Block(0x2000, 64);
  Block(0x3000, 64);
  Block(0x4000, 64);
  Root(0x100, 0x110);
  Word(0x108, 0x1000);
  Word(0x1038, 0x2000);  // the last word of the first block
  EXPECT_EQ(Find({0x3000}), (Reaches{kReachable, kReachable, kReachable, kDefinitely}));
}

TEST_F(ReachabilityTest, WhatOnlyLostBlocksPointToIsIndirectlyLost) {
  Block(0x1000, 16);
  Block(0x2000, 16);
  Block(0x3000, 16);
  Word(0x3000, 0x1000);  // the leader has the highest address
  Word(0x1000, 0x2008);  // into the middle counts, too
  EXPECT_EQ(Find(), (Reaches{kIndirectly, kIndirectly, kDefinitely}));
}

TEST_F(ReachabilityTest, OfACircleOneIsDefinitelyLost) {
  Block(0x1000, 16);
  Block(0x2000, 16);
  Word(0x1000, 0x2000);
  Word(0x2000, 0x1000);
  EXPECT_EQ(Find(), (Reaches{kDefinitely, kIndirectly}));
}

TEST_F(ReachabilityTest, APointerToItselfKeepsNothing) {
  Block(0x1000, 16);
  Word(0x1000, 0x1000);
  EXPECT_EQ(Find(), (Reaches{kDefinitely}));
}

TEST_F(ReachabilityTest, OnlyAPointerIntoTheMiddleIsPossiblyLost) {
  Block(0x1000, 32);
  Block(0x2000, 16);
  Root(0x100, 0x108);
  Word(0x100, 0x1010);
  Word(0x1000, 0x2000);
  EXPECT_EQ(Find(), (Reaches{kPossibly, kPossibly}));
  Word(0x2000, 0x1000);  // itself only possibly lost
  EXPECT_EQ(Find(), (Reaches{kPossibly, kPossibly}));
  EXPECT_EQ(Find({0x1000}), (Reaches{kReachable, kReachable}));
}

TEST_F(ReachabilityTest, ExactRootsCountOnlyTheVeryAddress) {
  Block(0x1000, 32);
  Block(0x2000, 32);
  Root(0x100, 0x110, /*exact_only=*/true);
  Word(0x100, 0x1018);
  Word(0x108, 0x2000);
  EXPECT_EQ(Find(), (Reaches{kDefinitely, kReachable}));
}

TEST_F(ReachabilityTest, BoundsOfBlocks) {
  Block(0x1000, 0);
  Block(0x1020, 16);
  EXPECT_EQ(Find({0x0fff, 0x1001, 0x1030}), (Reaches{kDefinitely, kDefinitely}));
  EXPECT_EQ(Find({0x1000, 0x102f}), (Reaches{kReachable, kPossibly}));
}

TEST_F(ReachabilityTest, ReadsWholeWordsOnly) {
  Block(0x1000, 16);
  Root(0x104, 0x10c);  // no aligned word lies in it
  Word(0x100, 0x1000);
  Word(0x108, 0x1000);
  EXPECT_EQ(Find(), (Reaches{kDefinitely}));
}

TEST_F(ReachabilityTest, NoBlocks) {
  Root(0x100, 0x110);
  EXPECT_TRUE(Find({1, 2}).empty());
}

}  // namespace
}  // namespace ollamatrace
