#include "analyzer/text/nearest_word.h"

#include <string>

#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(NearestWord, FewestEdits) {
  const std::vector<std::string> words = {"peak", "growth-per-hour", "growth-per-request"};
  EXPECT_EQ(NearestWord("peek", words), "peak");
  EXPECT_EQ(NearestWord("growth_per_houre", words), "growth-per-hour");
  EXPECT_EQ(NearestWord("growth-per-req", words), "growth-per-request");
  EXPECT_EQ(NearestWord("", words), "peak");
  EXPECT_EQ(NearestWord("x", {}), "");
  EXPECT_EQ(NearestWord(std::string(1'000'000, 'x'), {"a"}), "a");
}

}  // namespace
}  // namespace ollamatrace
