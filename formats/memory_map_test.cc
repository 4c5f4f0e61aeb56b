#include "formats/memory_map.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "formats/encode.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kExclusive = uint64_t{1} << 56;

class MemoryMapTest : public testing::Test {
 protected:
  explicit MemoryMapTest(size_t capacity = kMaxMemoryMapBytes) : body_(capacity) {
    builder_.Begin(body_.data(), capacity, 4096);
  }
  // smaps, and of each area that wants them the words of pagemap.
  void Read(const std::string& text, std::vector<std::vector<uint64_t>> words = {}) {
    SmapsParser parser;
    SmapsArea area;
    size_t next = 0;
    const auto take = [&] {
      builder_.AddArea(area);
      if (!WantsPages(area, 4096)) {
        builder_.CloseArea();
        return;
      }
      ASSERT_LT(next, words.size());
      builder_.AddPages(words[next].data(), words[next].size());
      if (!builder_.CloseArea()) {
        builder_.ReopenArea();
        builder_.AddPages(words[next].data(), words[next].size());
        EXPECT_TRUE(builder_.CloseArea());
      }
      ++next;
    };
    size_t at = 0;
    while (at < text.size()) {
      const size_t end = text.find('\n', at);
      if (parser.Line(text.data() + at, end - at, &area)) take();
      at = end + 1;
    }
    if (parser.Last(&area)) take();
    EXPECT_EQ(next, words.size());
  }
  absl::string_view body() {
    return {reinterpret_cast<const char*>(body_.data()), builder_.Finish()};
  }
  MemoryMap Decode() {
    const absl::StatusOr<MemoryMap> map = DecodeMemoryMap(7, 4096, body());
    EXPECT_TRUE(map.ok()) << map.status();
    return map.ok() ? *map : MemoryMap();
  }

  std::vector<uint8_t> body_;
  MemoryMapBuilder builder_;
};

constexpr char kSmaps[] =
    "00400000-00402000 r-xp 00000000 fe:00 12 /usr/bin/a program\n"
    "Size:                  8 kB\n"
    "Rss:                   8 kB\n"
    "Shared_Clean:          4 kB\n"
    "Anonymous:             0 kB\n"
    "Swap:                  0 kB\n"
    "VmFlags: rd ex mr mw me\n"
    "00402000-00403000 rw-p 00002000 fe:00 12 /usr/bin/a program\n"
    "Rss:                   4 kB\n"
    "Anonymous:             4 kB\n"
    "Swap:                  0 kB\n"
    "00500000-00508000 rw-p 00000000 00:00 0 [heap]\n"
    "Rss:                  12 kB\n"
    "Anonymous:            12 kB\n"
    "AnonHugePages:         0 kB\n"
    "Swap:                  4 kB\n"
    "SwapPss:               4 kB\n"
    "7f0000000000-7f0000001000 ---p 00000000 00:00 0 \n"
    "Rss:                   0 kB\n"
    "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall]\n"
    "Rss:                   0 kB\n";

TEST_F(MemoryMapTest, ComesBack) {
  Read(kSmaps, {{kPresent, kPresent | kExclusive, 0, kSwapped, 0, 0, 0, kPresent}});
  builder_.AddThread(ThreadKind::kOther, 0x7f1234);
  builder_.AddThread(ThreadKind::kTracer, 0x7f5678);
  builder_.AddThread(ThreadKind::kFirst, 0x7f6000);
  builder_.AddOwn(0x7f9000, 0x2000);
  builder_.AddHeap(kArenaHeapBytes, kArenaHeapBytes + 32, 0);
  const MemoryMap map = Decode();
  EXPECT_EQ(map.time_ns, 7u);
  ASSERT_EQ(map.areas.size(), 4u);
  EXPECT_EQ(map.areas[0].name, "/usr/bin/a program");
  EXPECT_EQ(map.areas[0].kind, AreaKind::kFile);
  EXPECT_EQ(map.areas[0].protection, 5);
  EXPECT_EQ(map.areas[0].rss, 8192u);
  EXPECT_EQ(map.areas[0].shared_bytes, 4096u);
  EXPECT_EQ(map.areas[1].name, map.areas[0].name);
  EXPECT_EQ(map.areas[1].anonymous, 4096u);
  EXPECT_FALSE(map.areas[1].runs_known);
  EXPECT_EQ(map.areas[2].kind, AreaKind::kHeap);
  EXPECT_EQ(map.areas[2].swap, 4096u);
  ASSERT_TRUE(map.areas[2].runs_known);
  ASSERT_EQ(map.areas[2].runs.size(), 3u);
  EXPECT_EQ(map.areas[2].runs[0].begin, 0x500000u);
  EXPECT_EQ(map.areas[2].runs[0].end, 0x502000u);
  EXPECT_EQ(map.areas[2].runs[1].begin, 0x503000u);
  EXPECT_EQ(map.areas[2].runs[2].end, 0x508000u);
  EXPECT_EQ(map.areas[3].begin, 0x7f0000000000u);
  EXPECT_EQ(map.areas[3].protection, 0);
  EXPECT_THAT(map.threads, testing::ElementsAre(0x7f1234));
  EXPECT_EQ(map.first_thread, 0x7f6000u);
  EXPECT_THAT(map.own_threads, testing::ElementsAre(0x7f5678));
  ASSERT_EQ(map.own.size(), 1u);
  EXPECT_EQ(map.own[0].end, 0x7fb000u);
  ASSERT_EQ(map.heaps.size(), 1u);
  EXPECT_EQ(map.heaps[0].arena, kArenaHeapBytes + 32);
}

// smaps does not count it, pagemap has it present.
TEST_F(MemoryMapTest, ThePageOfZerosIsNoMemory) {
  Read(
      "00500000-00503000 rw-p 00000000 00:00 0 \n"
      "Rss: 4 kB\n"
      "Anonymous: 4 kB\n",
      {{kPresent, kPresent | kExclusive, kPresent}});
  const MemoryMap map = Decode();
  ASSERT_EQ(map.areas.size(), 1u);
  ASSERT_EQ(map.areas[0].runs.size(), 1u);
  EXPECT_EQ(map.areas[0].runs[0].begin, 0x501000u);
  EXPECT_EQ(map.areas[0].runs[0].end, 0x502000u);
}

class SmallMemoryMapTest : public MemoryMapTest {
 protected:
  SmallMemoryMapTest() : MemoryMapTest(12 << 10) {}
};

TEST_F(SmallMemoryMapTest, WhatFindsNoRoomIsSummedUp) {
  std::string text;
  std::vector<std::vector<uint64_t>> words;
  for (int i = 0; i < 1000; ++i) {
    char line[100];
    snprintf(line, sizeof line, "%08x-%08x rw-p 00000000 00:00 0 \nRss: 4 kB\nAnonymous: 4 kB\n",
             (2 * i + 1) << 12, (2 * i + 2) << 12);
    text += line;
    words.push_back({kPresent | kExclusive});
  }
  Read(text, words);
  const MemoryMap map = Decode();
  EXPECT_GT(map.areas.size(), 100u);
  EXPECT_LT(map.areas.size(), 1000u);
  EXPECT_EQ(map.rest_rss, 4096 * (1000 - map.areas.size()));
  EXPECT_EQ(map.rest_anonymous, map.rest_rss);
}

TEST_F(SmallMemoryMapTest, RunsThatFindNoRoomAreNotKnown) {
  std::vector<uint64_t> words;
  for (int i = 0; i < 10000; ++i) {
    words.push_back(kPresent | kExclusive);
    words.push_back(0);
  }
  Read(
      "10000000-14e20000 rw-p 00000000 00:00 0 [heap]\n"
      "Rss: 40000 kB\n"
      "Anonymous: 40000 kB\n",
      {words});
  const MemoryMap map = Decode();
  ASSERT_EQ(map.areas.size(), 1u);
  EXPECT_FALSE(map.areas[0].runs_known);
  EXPECT_TRUE(map.areas[0].runs.empty());
  EXPECT_EQ(map.areas[0].rss, 40000u * 1024);
}

TEST_F(MemoryMapTest, BelievesNothing) {
  Read(kSmaps, {{kPresent, kPresent, kPresent, kSwapped, 0, 0, 0, 0}});
  builder_.AddHeap(kArenaHeapBytes, 16, 0);
  const std::string good(body());
  for (size_t size = 0; size < good.size(); ++size) {
    // A body that ends between two entries behind the areas is one.
    DecodeMemoryMap(1, 4096, good.substr(0, size)).IgnoreError();
    for (int bit = 0; bit < 8; ++bit) {
      std::string bad = good;
      bad[size] = static_cast<char>(bad[size] ^ (1 << bit));
      const absl::StatusOr<MemoryMap> map = DecodeMemoryMap(1, 4096, bad);
      if (!map.ok()) continue;
      uint64_t end = 0;
      for (const MemoryArea& area : map->areas) {
        EXPECT_GE(area.begin, end);
        EXPECT_GE(area.end, area.begin);
        end = area.end;
        for (const PageRun& run : area.runs) {
          EXPECT_GE(run.begin, area.begin);
          EXPECT_LE(run.end, area.end);
        }
      }
    }
  }
  EXPECT_FALSE(DecodeMemoryMap(1, 4096, "").ok());
  EXPECT_FALSE(DecodeMemoryMap(1, 0, good).ok());
  EXPECT_FALSE(DecodeMemoryMap(1, 4096, std::string(kMaxDecodedMapBytes + 1, '\0')).ok());
}

}  // namespace
}  // namespace ollamatrace
