#include "analyzer/replay/mapping_table.h"

#include <map>
#include <random>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

Mapping Of(uint32_t stack) { return {{StackId{stack}}, stack * 10}; }

// What was removed, as "stack:bytes" and "!" for the last of a mapping.
class Log {
 public:
  MappingTable::Removed Function() {
    return [this](const Mapping& mapping, uint64_t bytes, bool last) {
      absl::StrAppend(&text_, text_.empty() ? "" : " ", static_cast<uint32_t>(mapping.key.stack),
                      ":", bytes, last ? "!" : "");
    };
  }
  std::string Take() {
    std::string text = text_;
    text_.clear();
    return text;
  }

 private:
  std::string text_;
};

std::string Contents(const MappingTable& table) {
  std::string text;
  table.ForEach([&](const Mapping& mapping, uint64_t bytes, bool first) {
    absl::StrAppend(&text, text.empty() ? "" : " ", static_cast<uint32_t>(mapping.key.stack), ":",
                    bytes, first ? "" : "+");
  });
  return text;
}

TEST(MappingTable, UnmapsWhole) {
  MappingTable table;
  Log log;
  table.Map(0x1000, 0x3000, Of(1), log.Function());
  EXPECT_EQ(table.Unmap(0x1000, 0x3000, log.Function()), 0x3000u);
  EXPECT_EQ(log.Take(), "1:12288!");
  EXPECT_EQ(table.pieces(), 0u);
}

TEST(MappingTable, UnmapsAHoleThenTheRest) {
  MappingTable table;
  Log log;
  table.Map(0x1000, 0x3000, Of(1), log.Function());
  table.Unmap(0x2000, 0x1000, log.Function());
  EXPECT_EQ(log.Take(), "1:4096");
  EXPECT_EQ(Contents(table), "1:4096 1:4096+");
  table.Unmap(0x1000, 0x1000, log.Function());
  EXPECT_EQ(log.Take(), "1:4096");
  EXPECT_EQ(Contents(table), "1:4096");
  table.Unmap(0x3000, 0x1000, log.Function());
  EXPECT_EQ(log.Take(), "1:4096!");
}

TEST(MappingTable, UnmapsAcrossSeveralAndGaps) {
  MappingTable table;
  Log log;
  table.Map(0x1000, 0x1000, Of(1), log.Function());
  table.Map(0x2000, 0x1000, Of(2), log.Function());
  table.Map(0x5000, 0x2000, Of(3), log.Function());
  EXPECT_EQ(table.Unmap(0x0, 0x6000, log.Function()), 0x3000u);
  EXPECT_EQ(log.Take(), "1:4096! 2:4096! 3:4096");
  EXPECT_EQ(Contents(table), "3:4096");
}

TEST(MappingTable, ANewMappingReplacesWhatWasThere) {
  MappingTable table;
  Log log;
  table.Map(0x1000, 0x4000, Of(1), log.Function());
  table.Map(0x2000, 0x1000, Of(2), log.Function());
  EXPECT_EQ(log.Take(), "1:4096");
  EXPECT_EQ(Contents(table), "1:4096 2:4096 1:8192+");
  table.Map(0x0, 0x10000, Of(3), log.Function());
  EXPECT_EQ(log.Take(), "1:4096 2:4096! 1:8192!");
  EXPECT_EQ(Contents(table), "3:65536");
}

TEST(MappingTable, NothingThereIsNothing) {
  MappingTable table;
  Log log;
  EXPECT_EQ(table.Unmap(0x1000, 0x1000, log.Function()), 0u);
  table.Map(0x1000, 0, Of(1), log.Function());
  EXPECT_EQ(table.pieces(), 0u);
  EXPECT_EQ(log.Take(), "");
}

TEST(MappingTable, RangesThatWrapEndAtTheTop) {
  MappingTable table;
  Log log;
  table.Map(~uint64_t{0} - 0xfff, ~uint64_t{0}, Of(1), log.Function());
  EXPECT_EQ(Contents(table), "1:4095");
  EXPECT_EQ(table.Unmap(0, ~uint64_t{0}, log.Function()), 4095u);
  EXPECT_EQ(log.Take(), "1:4095!");
}

// Against a table that knows each page's owner.
TEST(MappingTable, AgreesWithATableOfPages) {
  std::mt19937 draw(1);
  MappingTable table;
  constexpr uint64_t kPages = 64;
  std::vector<uint32_t> owner(kPages, 0);
  std::map<uint32_t, uint64_t> last_of;
  for (uint32_t step = 1; step <= 3000; ++step) {
    const uint64_t first = draw() % kPages;
    const uint64_t count = 1 + draw() % (kPages - first);
    std::map<uint32_t, uint64_t> removed, expected;
    std::vector<uint32_t> gone;
    const MappingTable::Removed note = [&](const Mapping& mapping, uint64_t bytes, bool last) {
      removed[static_cast<uint32_t>(mapping.key.stack)] += bytes / 4096;
      if (last) gone.push_back(static_cast<uint32_t>(mapping.key.stack));
    };
    const uint32_t now = draw() % 2 == 0 ? step : 0;
    for (uint64_t page = first; page < first + count; ++page) {
      if (owner[page] != 0) ++expected[owner[page]];
      owner[page] = now;
    }
    if (now != 0) {
      table.Map(first * 4096, count * 4096, Of(now), note);
    } else {
      table.Unmap(first * 4096, count * 4096, note);
    }
    ASSERT_EQ(removed, expected);
    std::vector<uint32_t> expected_gone;
    for (const auto& [stack, pages] : expected) {
      bool left = false;
      for (const uint32_t one : owner) left |= one == stack;
      if (!left) expected_gone.push_back(stack);
    }
    std::sort(gone.begin(), gone.end());
    ASSERT_EQ(gone, expected_gone);
    uint64_t firsts = 0, bytes = 0;
    std::map<uint32_t, uint64_t> owners, live;
    for (const uint32_t one : owner) owners[one] += one != 0;
    owners.erase(0);
    table.ForEach([&](const Mapping& mapping, uint64_t piece, bool is_first) {
      firsts += is_first;
      bytes += piece;
      live[static_cast<uint32_t>(mapping.key.stack)] += piece / 4096;
    });
    ASSERT_EQ(live, owners);
    ASSERT_EQ(firsts, owners.size());
  }
}

}  // namespace
}  // namespace ollamatrace
