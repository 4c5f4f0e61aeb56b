#include "analyzer/replay/live_blocks.h"

#include <map>
#include <random>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(LiveBlocks, AnEmptyOneHasNothing) {
  LiveBlocks blocks;
  blocks.Prefetch(16);
  EXPECT_EQ(blocks.Find(0), nullptr);
  EXPECT_EQ(blocks.Find(16), nullptr);
  EXPECT_EQ(blocks.size(), 0u);
}

// Against a map: few addresses, so that they collide, and any address, 0 and the last included.
TEST(LiveBlocks, DoesAsAMapDoes) {
  for (const uint64_t addresses : {16u, 3000u, 200'000u}) {
    std::mt19937_64 random(addresses);
    LiveBlocks blocks;
    std::map<uint64_t, uint64_t> model;
    for (uint32_t i = 0; i < 300'000; ++i) {
      const uint64_t address = (random() % addresses - addresses / 2) * 16;
      LiveBlock* const found = blocks.Find(address);
      const auto it = model.find(address);
      ASSERT_EQ(found != nullptr, it != model.end());
      if (found == nullptr) {
        blocks.Add({address, i, 2 * uint64_t{i}, i % 7});
        model[address] = i;
        continue;
      }
      ASSERT_EQ(found->address, address);
      ASSERT_EQ(found->size, it->second);
      ASSERT_EQ(found->time_ns, 2 * it->second);
      ASSERT_EQ(found->row, it->second % 7);
      blocks.Remove(found);
      model.erase(it);
    }
    EXPECT_EQ(blocks.size(), model.size());
    size_t visited = 0;
    blocks.ForEach([&](const LiveBlock& block) {
      ++visited;
      EXPECT_EQ(model.at(block.address), block.size);
    });
    EXPECT_EQ(visited, model.size());
  }
}

}  // namespace
}  // namespace ollamatrace
