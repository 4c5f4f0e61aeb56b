#include "analyzer/replay/stack_nodes.h"

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

Node At(uint32_t parent, uint64_t address, uint32_t module = 1, bool exact = false) {
  return {StackId{parent}, ModuleId{module}, address, exact};
}

TEST(StackNodes, FindsWhatWasSet) {
  StackNodes nodes;
  nodes.Set(StackId{3}, At(2, 0x100, 7, true));
  ASSERT_TRUE(nodes.Find(StackId{3}));
  const Node node = *nodes.Find(StackId{3});
  EXPECT_EQ(node.parent, StackId{2});
  EXPECT_EQ(node.module, ModuleId{7});
  EXPECT_EQ(node.address, 0x100u);
  EXPECT_TRUE(node.exact);
  EXPECT_FALSE(nodes.Find(StackId{2}));
  EXPECT_FALSE(nodes.Find(StackId{4}));
  EXPECT_FALSE(nodes.Find(StackId{~0u}));
  EXPECT_EQ(nodes.size(), 1u);
}

TEST(StackNodes, ZeroIsNone) {
  StackNodes nodes;
  nodes.Set(StackId{}, At(0, 1));
  EXPECT_FALSE(nodes.Contains(StackId{}));
  EXPECT_EQ(nodes.size(), 0u);
}

TEST(StackNodes, TheLastDefinitionCounts) {
  StackNodes nodes;
  for (const uint32_t id : {5u, 4'000'000'000u}) {
    nodes.Set(StackId{id}, At(1, 0x100));
    nodes.Set(StackId{id}, At(2, 0x200));
    EXPECT_EQ(nodes.ParentOf(StackId{id}), StackId{2});
    EXPECT_EQ(nodes.place(nodes.PlaceOf(StackId{id})).address, 0x200u);
  }
  EXPECT_EQ(nodes.size(), 2u);
}

TEST(StackNodes, APlaceIsKeptOnce) {
  StackNodes nodes;
  for (uint32_t id = 1; id <= 100; ++id) nodes.Set(StackId{id}, At(id - 1, id % 4));
  EXPECT_EQ(nodes.places(), 4u);
  EXPECT_EQ(nodes.PlaceOf(StackId{3}), nodes.PlaceOf(StackId{7}));
  // The module and the exactness are part of it.
  nodes.Set(StackId{101}, At(0, 1, 2));
  nodes.Set(StackId{102}, At(0, 1, 1, true));
  EXPECT_EQ(nodes.places(), 6u);
}

TEST(StackNodes, IdsFarBeyondTheOthersTakeNoRoom) {
  StackNodes nodes;
  for (uint32_t i = 0; i < 1000; ++i) nodes.Set(StackId{~0u - i * 4'000'000}, At(i, i));
  EXPECT_LT(nodes.dense_ids(), 100'000u);
  for (uint32_t i = 0; i < 1000; ++i) {
    EXPECT_EQ(nodes.ParentOf(StackId{~0u - i * 4'000'000}), StackId{i});
  }
  EXPECT_EQ(nodes.size(), 1000u);
}

TEST(StackNodes, WhatWasFarStaysRightWhenTheOthersReachIt) {
  constexpr uint32_t kFar = 400'000;
  StackNodes nodes;
  nodes.Set(StackId{kFar}, At(1, 0x100));
  for (uint32_t id = 1; id <= kFar + 10; ++id) {
    if (id != kFar) nodes.Set(StackId{id}, At(id, 7));
  }
  EXPECT_EQ(nodes.ParentOf(StackId{kFar}), StackId{1});
  nodes.Set(StackId{kFar}, At(2, 0x200));
  EXPECT_EQ(nodes.ParentOf(StackId{kFar}), StackId{2});
  EXPECT_EQ(nodes.ParentOf(StackId{kFar + 1}), StackId{kFar + 1});
  EXPECT_EQ(nodes.size(), kFar + 10u);
}

}  // namespace
}  // namespace ollamatrace
