#include "analyzer/watch/live_ledger.h"

#include <string>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

AllocRecord Alloc(uint64_t address, uint64_t size, uint32_t stack, Domain domain = Domain::kHeap) {
  AllocRecord record;
  record.address = address;
  record.size = size;
  record.stack = StackId{stack};
  record.domain = domain;
  return record;
}

FreeRecord Free(uint64_t address, Domain domain = Domain::kHeap) {
  FreeRecord record;
  record.address = address;
  record.domain = domain;
  return record;
}

uint64_t BytesOf(const LiveLedger& ledger, uint32_t stack) {
  uint64_t bytes = 0;
  for (const LiveLedger::Row& row : ledger.rows()) {
    if (row.key.stack == StackId{stack}) bytes += row.live_bytes;
  }
  return bytes;
}

TEST(LiveLedger, KeepsWhatIsLiveByStack) {
  LiveLedger ledger;
  ledger.OnAlloc(Alloc(0x1000, 100, 1));
  ledger.OnAlloc(Alloc(0x2000, 50, 1));
  ledger.OnAlloc(Alloc(0x3000, 7, 2));
  ledger.OnFree(Free(0x2000));
  ledger.OnFree(Free(0x9000));  // nobody knows it
  EXPECT_EQ(BytesOf(ledger, 1), 100u);
  EXPECT_EQ(BytesOf(ledger, 2), 7u);
  EXPECT_EQ(ledger.heap_bytes(), 107u);
  EXPECT_EQ(ledger.live_blocks(), 2u);
  // Its free was lost.
  ledger.OnAlloc(Alloc(0x1000, 30, 2));
  EXPECT_EQ(BytesOf(ledger, 1), 0u);
  EXPECT_EQ(ledger.heap_bytes(), 37u);
}

TEST(LiveLedger, TakesBackWhatTheJournalSaid) {
  LiveLedger ledger;
  ledger.OnAlloc(Alloc(0x1000, 100, 1));
  ledger.OnAlloc(Alloc(0x2000, 50, 1));
  MapRecord map;
  map.address = 0x100000;
  map.length = 0x4000;
  map.protection = 3;
  map.stack = StackId{3};
  ledger.OnMap(map);
  for (int round = 0; round < 3; ++round) {
    ledger.Mark();
    ledger.OnFree(Free(0x1000));
    ledger.OnAlloc(Alloc(0x1000, 9, 2));
    ledger.OnFree(Free(0x1000));
    ledger.OnAlloc(Alloc(0x5000, 5, 4));
    UnmapRecord unmap;
    unmap.address = 0x101000;
    unmap.length = 0x1000;
    ledger.OnUnmap(unmap);
    EXPECT_EQ(ledger.heap_bytes(), 55u);
    EXPECT_EQ(ledger.mapped_bytes(), 0x3000u);
    EXPECT_EQ(BytesOf(ledger, 4), 5u);
    ledger.TakeBack();
    EXPECT_EQ(ledger.heap_bytes(), 150u);
    EXPECT_EQ(ledger.mapped_bytes(), 0x4000u);
    EXPECT_EQ(BytesOf(ledger, 1), 150u);
    EXPECT_EQ(BytesOf(ledger, 4), 0u);
    EXPECT_EQ(ledger.live_blocks(), 2u);
  }
  // The trace says for good what the journal had said.
  ledger.OnFree(Free(0x1000));
  EXPECT_EQ(ledger.heap_bytes(), 50u);
}

TEST(LiveLedger, RestartForgetsWhatIsLiveOnly) {
  LiveLedger ledger;
  ledger.OnAlloc(Alloc(0x1000, 100, 1));
  ledger.SetFirst();
  ledger.OnAlloc(Alloc(0x2000, 50, 2));
  ledger.Restart();
  EXPECT_EQ(ledger.heap_bytes(), 0u);
  EXPECT_EQ(ledger.live_blocks(), 0u);
  ledger.OnAlloc(Alloc(0x2000, 60, 2));
  ledger.OnAlloc(Alloc(0x1000, 100, 1));
  EXPECT_EQ(BytesOf(ledger, 1), 100u);
  EXPECT_EQ(BytesOf(ledger, 2), 60u);
  // What growth is counted from.
  ASSERT_EQ(ledger.rows().size(), 2u);
  EXPECT_EQ(ledger.rows()[0].first_bytes, 100u);
  EXPECT_EQ(ledger.rows()[1].first_bytes, 0u);
}

TEST(LiveLedger, DomainsDoNotMix) {
  LiveLedger ledger;
  ledger.OnAlloc(Alloc(0x1000, 10, 1));
  ledger.OnAlloc(Alloc(0x1000, 4096, 1, Domain::kDevice));
  ledger.OnAlloc(Alloc(0x1000, 77, 1, Domain::kMapped));  // seen once more: no memory of its own
  EXPECT_EQ(ledger.heap_bytes(), 10u);
  EXPECT_EQ(ledger.gpu_bytes(), 4096u);
  ledger.OnFree(Free(0x1000, Domain::kDevice));
  EXPECT_EQ(ledger.gpu_bytes(), 0u);
  EXPECT_EQ(ledger.heap_bytes(), 10u);
}

TEST(LiveLedger, EstimatesOfSampledBlocks) {
  LiveLedger ledger;
  HeaderRecord header;
  header.mode = Mode::kSample;
  header.sample_bytes = 1 << 20;
  ledger.OnHeader(header);
  ledger.OnAlloc(Alloc(0x1000, 1024, 1));
  EXPECT_NEAR(static_cast<double>(ledger.heap_bytes()), 1 << 20, 1024);
  EXPECT_NEAR(static_cast<double>(ledger.live_blocks()), 1024, 1);
  ledger.OnFree(Free(0x1000));
  EXPECT_EQ(ledger.heap_bytes(), 0u);
  EXPECT_EQ(ledger.live_blocks(), 0u);
}

TEST(LiveLedger, GivesUpBlocksWhenThereAreTooMany) {
  LiveLedger ledger;
  ledger.OnAlloc(Alloc(0x8, 1, 1));
  ledger.Mark();
  for (uint64_t i = 1; i <= LiveLedger::kMostBlocks + 1; ++i) ledger.OnAlloc(Alloc(i * 16, 8, 1));
  EXPECT_FALSE(ledger.followed());
  EXPECT_EQ(ledger.heap_bytes(), 0u);
  EXPECT_EQ(ledger.live_blocks(), 0u);
  ledger.TakeBack();
  EXPECT_EQ(ledger.heap_bytes(), 0u);
  ledger.OnAlloc(Alloc(0x10, 8, 1));
  EXPECT_EQ(ledger.live_blocks(), 0u);
}

TEST(LiveLedger, StacksForNamingTakesWholeStacks) {
  LiveLedger ledger;
  NodeRecord node;
  node.id = StackId{1};
  node.module = ModuleId{5};
  ledger.OnNode(node);
  node.id = StackId{2};
  node.parent = StackId{1};
  ledger.OnNode(node);
  node.id = StackId{3};
  node.parent = StackId{3};  // a lie: its own parent
  ledger.OnNode(node);
  ModuleRecord module;
  module.id = ModuleId{5};
  const std::string path = "/bin/x";
  module.path = {path.data(), path.size()};
  ledger.OnModule(module);
  const ProcessHistory history = ledger.StacksForNaming({StackId{2}, StackId{3}, StackId{9}});
  EXPECT_EQ(history.nodes.size(), 3u);
  EXPECT_EQ(history.modules.size(), 1u);
}

}  // namespace
}  // namespace ollamatrace
