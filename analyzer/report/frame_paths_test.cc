#include "analyzer/report/frame_paths.h"

#include <algorithm>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

FramePaths::Path Make(FramePaths& paths, std::vector<uint32_t> innermost_first) {
  FramePaths::Path path = FramePaths::kEmpty;
  for (size_t i = innermost_first.size(); i-- > 0;) path = paths.Extend(path, innermost_first[i]);
  return path;
}

TEST(FramePaths, EqualSequencesAreOnePath) {
  FramePaths paths;
  EXPECT_EQ(Make(paths, {3, 2, 1}), Make(paths, {3, 2, 1}));
  EXPECT_NE(Make(paths, {3, 2, 1}), Make(paths, {3, 2}));
  EXPECT_NE(Make(paths, {3, 2, 1}), Make(paths, {2, 1}));
  EXPECT_EQ(paths.Outer(Make(paths, {3, 2, 1})), Make(paths, {2, 1}));
  EXPECT_EQ(paths.Frame(Make(paths, {3, 2, 1})), 3u);
}

TEST(FramePaths, FramesComeInnermostFirst) {
  FramePaths paths;
  EXPECT_THAT(paths.Frames(Make(paths, {0, 7, 0})), ElementsAre(0, 7, 0));
  EXPECT_THAT(paths.Frames(FramePaths::kEmpty), IsEmpty());
}

TEST(FramePaths, ComparesAsTheSequencesDo) {
  FramePaths paths;
  const std::vector<std::vector<uint32_t>> sequences = {
      {}, {1}, {1, 2}, {1, 2, 3}, {1, 3}, {2, 1}, {0, 9, 9}, {3, 2, 1}, {1, 2, 4}};
  for (const auto& a : sequences) {
    for (const auto& b : sequences) {
      const int order = paths.Compare(Make(paths, a), Make(paths, b));
      EXPECT_EQ(order < 0, a < b);
      EXPECT_EQ(order == 0, a == b);
    }
  }
}

TEST(FramePaths, ManyStayApart) {
  FramePaths paths;
  std::vector<FramePaths::Path> made;
  for (uint32_t i = 0; i < 100; ++i) {
    for (uint32_t j = 0; j < 100; ++j) made.push_back(Make(paths, {i, j}));
  }
  std::sort(made.begin(), made.end());
  EXPECT_EQ(std::unique(made.begin(), made.end()), made.end());
}

}  // namespace
}  // namespace ollamatrace
