#include "analyzer/soak/prompts.h"

#include <set>
#include <string>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(Prompts, DistinctOnesDifferFromTheBeginning) {
  const Prompts prompts{PromptKind::kDistinct, 5, {}};
  std::set<std::string> seen;
  for (uint64_t i = 0; i < 500; ++i) seen.insert(prompts.At(i).substr(0, 8));
  EXPECT_GT(seen.size(), 490u);
  EXPECT_EQ(prompts.At(7), prompts.At(7));
}

TEST(Prompts, RepeatedOnesDoNot) {
  const Prompts prompts{PromptKind::kRepeated, 5, {}};
  EXPECT_EQ(prompts.At(1), prompts.At(2));
}

TEST(Prompts, MixedOnesAreShortAndLongAndReturn) {
  const Prompts prompts{PromptKind::kMixed, 16, {}};
  size_t shortest = ~size_t{0}, longest = 0;
  for (uint64_t i = 0; i < 200; ++i) {
    shortest = std::min(shortest, prompts.At(i).size());
    longest = std::max(longest, prompts.At(i).size());
  }
  EXPECT_GT(longest, shortest * 20);
  EXPECT_EQ(prompts.At(3), prompts.At(7));
  EXPECT_NE(prompts.At(4), prompts.At(8));
}

TEST(Prompts, LinesOfAFileInTurn) {
  const Prompts prompts{PromptKind::kFile, 16, {"a", "b"}};
  EXPECT_EQ(prompts.At(0) + prompts.At(1) + prompts.At(2), "aba");
}

TEST(Prompts, Kinds) {
  PromptKind kind;
  EXPECT_TRUE(ParsePromptKind("mixed", kind).ok());
  EXPECT_EQ(kind, PromptKind::kMixed);
  EXPECT_FALSE(ParsePromptKind("other", kind).ok());
}

}  // namespace
}  // namespace ollamatrace
