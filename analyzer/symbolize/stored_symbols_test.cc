#include "analyzer/symbolize/stored_symbols.h"

#include <random>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

// Answers with inlined frames, shared texts and an address of which nothing is known.
struct Example {
  std::vector<Frame> inlined = {{"Inner", "/src/a.cc", 7, true}, {"Outer", "/src/a.cc", 12, false}};
  std::vector<Frame> plain = {{"Outer", "", 0, false}};
  StoredSymbolsHead head = {.module = {"/usr/bin/server", std::string("\0\xff id", 5)},
                            .sources = {.dwarf = true, .dynsym = true},
                            .file = {"/usr/bin/server", 123456, 1700000000123456789},
                            .debug_file = {"/usr/lib/debug/server", 99, 5}};
  SymbolAnswers answers = {{0, plain}, {0x1000, inlined}, {0x1001, {}}, {~uint64_t{0}, plain}};
  std::string bytes = EncodeStoredSymbols(head, answers);
};

auto IsFrame(const std::string& function, const std::string& file, uint32_t line, bool inlined) {
  return testing::AllOf(testing::Field(&Frame::function, function),
                        testing::Field(&Frame::file, file), testing::Field(&Frame::line, line),
                        testing::Field(&Frame::inlined, inlined));
}

TEST(StoredSymbolsTest, AnswersComeBackAsTheyWere) {
  const Example example;
  const auto stored = StoredSymbols::Decode(example.bytes);
  ASSERT_TRUE(stored.ok()) << stored.status();
  const StoredSymbolsHead& head = (*stored)->head();
  EXPECT_EQ(head.module.path, example.head.module.path);
  EXPECT_EQ(head.module.build_id, example.head.module.build_id);
  EXPECT_TRUE(head.SameData(example.head));
  EXPECT_THAT(*(*stored)->Find(0x1000), ElementsAre(IsFrame("Inner", "/src/a.cc", 7, true),
                                                    IsFrame("Outer", "/src/a.cc", 12, false)));
  EXPECT_THAT(*(*stored)->Find(0), ElementsAre(IsFrame("Outer", "", 0, false)));
  EXPECT_THAT(*(*stored)->Find(~uint64_t{0}), ElementsAre(IsFrame("Outer", "", 0, false)));
  // Known to be unknown, and not known at all.
  EXPECT_THAT(*(*stored)->Find(0x1001), IsEmpty());
  EXPECT_FALSE((*stored)->Find(0x1002).has_value());
  EXPECT_FALSE((*stored)->Find(1).has_value());
}

TEST(StoredSymbolsTest, NewAnswersStandBeforeStoredOnes) {
  const Example example;
  const auto stored = StoredSymbols::Decode(example.bytes);
  ASSERT_TRUE(stored.ok());
  const std::vector<Frame> fresh = {{"Fresh", "", 0, false}};
  SymbolAnswers answers = {{0x1000, fresh}};
  (*stored)->AddTo(answers);
  EXPECT_EQ(answers.size(), 4u);
  EXPECT_THAT(answers[0x1000], ElementsAre(IsFrame("Fresh", "", 0, false)));
}

TEST(StoredSymbolsTest, DamagedBytesAreRefused) {
  const Example example;
  for (size_t size = 0; size < example.bytes.size(); ++size) {
    EXPECT_FALSE(StoredSymbols::Decode(example.bytes.substr(0, size)).ok()) << size;
  }
  for (size_t at = 0; at < example.bytes.size(); ++at) {
    std::string bytes = example.bytes;
    bytes[at] = static_cast<char>(bytes[at] ^ 0x55);
    const auto stored = StoredSymbols::Decode(bytes);
    // zstd has bits that mean nothing; whatever passes its checksum is what was written.
    if (stored.ok()) {
      EXPECT_EQ((*stored)->Find(0x1000)->front().function, "Inner") << at;
    }
  }
  EXPECT_FALSE(StoredSymbols::Decode(example.bytes + "x").ok());
}

// What is in the frame, where no checksum stands before it.
TEST(StoredSymbolsTest, NothingInTheFrameIsTrusted) {
  const std::string whole(
      "\x01\x02id\x02/m\x01\x02/m\x05\x06\0\0\0\x02\x01"
      "f\x02/c"
      "\x01\x10\x01\0\x01\x0f",
      28);
  const auto stored = StoredSymbols::DecodeUnpacked(whole);
  ASSERT_TRUE(stored.ok()) << stored.status();
  EXPECT_THAT(*(*stored)->Find(16), ElementsAre(IsFrame("f", "/c", 7, true)));
  for (size_t size = 0; size < whole.size(); ++size) {
    EXPECT_FALSE(StoredSymbols::DecodeUnpacked(whole.substr(0, size)).ok()) << size;
  }
  std::mt19937 random(1);
  for (int round = 0; round < 20000; ++round) {
    std::string bytes = whole;
    for (int change = 0; change < 3; ++change) {
      bytes[random() % bytes.size()] = static_cast<char>(random());
    }
    const auto damaged = StoredSymbols::DecodeUnpacked(bytes);
    if (damaged.ok()) (*damaged)->Find(16);
  }
}

TEST(StoredSymbolsTest, AnotherVersionSaysSo) {
  const auto stored = StoredSymbols::DecodeUnpacked("\x7f");
  EXPECT_EQ(stored.status().message(), "of version 127");
}

}  // namespace
}  // namespace ollamatrace
