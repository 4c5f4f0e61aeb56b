#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "formats/column_reader.h"
#include "formats/column_writer.h"
#include "formats/record_decoder.h"
#include "formats/record_text.h"
#include "formats/test_trace.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using ::testing::IsEmpty;

constexpr uint64_t kUnitMask = ~((uint64_t{1} << kColumnTimeShift) - 1);

// A record's lines: nodes apart, since they come early.
class Lines : public TraceVisitor {
 public:
  void OnNode(const NodeRecord& record) override { node_text.OnNode(record); }
  void OnModule(const ModuleRecord& record) override { text.OnModule(record); }
  void OnThread(const ThreadRecord& record) override { text.OnThread(record); }
  void OnAlloc(const AllocRecord& record) override {
    AllocRecord alloc = record;
    if (round && alloc.domain == Domain::kHeap) alloc.time_ns &= kUnitMask;
    text.OnAlloc(alloc);
  }
  void OnFree(const FreeRecord& record) override {
    FreeRecord free = record;
    if (round && free.domain == Domain::kHeap) free.time_ns &= kUnitMask;
    text.OnFree(free);
  }
  void OnMap(const MapRecord& record) override { text.OnMap(record); }
  void OnUnmap(const UnmapRecord& record) override { text.OnUnmap(record); }
  void OnSample(const SampleRecord& record) override { text.OnSample(record); }
  void OnMessage(const MessageRecord& record) override { text.OnMessage(record); }
  void OnEnd(const EndRecord& record) override { text.OnEnd(record); }

  bool round = false;
  std::vector<std::string> lines, node_lines;
  RecordText text{[this](absl::string_view line) { lines.emplace_back(line); }};
  RecordText node_text{[this](absl::string_view line) { node_lines.emplace_back(line); }};
};

absl::Status ReadColumns(absl::string_view columns, TraceVisitor& visitor) {
  RecordDecoder decoder(visitor);
  return decoder.DecodeColumns(columns);
}

// What the records say comes back from their columns, times in units apart.
void ExpectSame(const std::string& records) {
  Lines from_records, from_columns;
  from_records.round = true;
  ASSERT_TRUE(RecordDecoder(from_records).Decode(records).ok());
  const std::string columns = ColumnsOf(records);
  ASSERT_NE(columns, "");
  ASSERT_TRUE(ReadColumns(columns, from_columns).ok());
  EXPECT_EQ(from_columns.lines.size(), from_records.lines.size());
  EXPECT_THAT(from_columns.lines, ElementsAreArray(from_records.lines));
  EXPECT_THAT(from_columns.node_lines, ElementsAreArray(from_records.node_lines));
}

// A program: a heap with free lists, stacks that call each other, some threads.
class Program {
 public:
  explicit Program(uint64_t seed) : random_(seed) {}

  void Steps(int count) {
    for (int i = 0; i < count; ++i) Step();
  }
  // An allocation at an address that is live: its free was lost.
  void LoseFree() {
    if (live_.empty()) return;
    const auto block = live_.begin();
    Alloc(block->first, block->second);
  }
  TraceBuilder& builder() { return builder_; }

 private:
  uint64_t Below(uint64_t bound) { return random_() % bound; }

  void Alloc(uint64_t address, uint64_t size) {
    const uint32_t stack = 1 + static_cast<uint32_t>(Below(1 + Below(stacks_)));
    builder_.Add(AllocRecord{time_, thread_, Domain::kHeap,
                             static_cast<AllocFunction>(stack % 3 + (Below(50) == 0 ? 1 : 0)),
                             StackId{stack}, address, size});
    live_[address] = size;
  }

  void Step() {
    time_ += Below(5000);
    if (Below(40) == 0) thread_ = ThreadId{1 + static_cast<uint32_t>(Below(3))};
    if (Below(300) == 0) time_ -= Below(100000);
    switch (Below(100)) {
      case 0:
        builder_.Add(MapRecord{time_, thread_, AllocFunction::kMmap, StackId{3},
                               0x7f0000000000 + (Below(100) << 12), 8192, 3, kMapAnonymous});
        return;
      case 1:
        builder_.Add(SampleRecord{time_, 1, 2});
        builder_.Add(UnmapRecord{time_, thread_, 0x7f0000000000 + (Below(100) << 12), 4096});
        return;
      case 2:
        builder_.Add(FreeRecord{time_, thread_, Domain::kHeap, 0x5000 + Below(1000)});  // unknown
        return;
      case 3:
        builder_.Add(AllocRecord{time_, thread_, Domain::kDevice, AllocFunction::kGpu, StackId{1},
                                 Below(1 << 20), Below(1 << 20)});
        builder_.Add(FreeRecord{time_, thread_, Domain::kDevice, Below(1 << 20)});
        return;
      case 4:
      case 5:
      case 6:
        for (uint64_t nodes = 1 + Below(4); nodes > 0; --nodes) {
          const auto parent = static_cast<uint32_t>(Below(4) == 0 ? Below(stacks_) : stacks_ - 1);
          builder_.Add(NodeRecord{StackId{stacks_++}, StackId{parent},
                                  ModuleId{static_cast<uint32_t>(Below(3))},
                                  0x400000 + Below(200) * 8, static_cast<uint8_t>(Below(2))});
        }
        return;
      default:
        break;
    }
    if (Below(2) == 0 && !live_.empty()) {
      auto block = live_.lower_bound(Below(8) == 0 ? 0 : last_ - 64);
      if (block == live_.end()) block = live_.begin();
      builder_.Add(FreeRecord{time_, thread_, Domain::kHeap, block->first});
      free_[block->second / 32].push_back(block->first);
      live_.erase(block);
      return;
    }
    const uint64_t size = Below(10) == 0 ? Below(1 << 20) : Below(300);
    std::vector<uint64_t>& list = free_[size / 32];
    if (!list.empty()) {
      last_ = list.back();
      list.pop_back();
    } else {
      last_ = end_;
      end_ += (size + 31) / 16 * 16 + (Below(50) == 0 ? 8 : 0);
    }
    Alloc(last_, size);
  }

  std::mt19937_64 random_;
  TraceBuilder builder_;
  uint64_t time_ = 123'456'789'012;
  ThreadId thread_{1};
  uint32_t stacks_ = 1;
  uint64_t end_ = 0x555500000010, last_ = 0x555500000010;
  std::map<uint64_t, uint64_t> live_;
  std::map<uint64_t, std::vector<uint64_t>> free_;
};

TEST(Columns, GiveTheRecordsBack) {
  for (uint64_t seed = 1; seed <= 40; ++seed) {
    SCOPED_TRACE(seed);
    Program program(seed);
    program.Steps(seed % 4 == 0 ? 20000 : 2000);
    ExpectSame(program.builder().records());
  }
}

TEST(Columns, LostFrees) {
  for (uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    Program program(seed);
    for (int i = 0; i < 100; ++i) {
      program.Steps(20);
      program.LoseFree();
    }
    ExpectSame(program.builder().records());
  }
}

TEST(Columns, AreSmall) {
  Program program(1);
  program.Steps(20000);
  const std::string& records = program.builder().records();
  EXPECT_LT(ColumnsOf(records).size() * 3, records.size() * 2);
}

AllocRecord AllocAt(uint64_t time_ns, uint64_t address, uint64_t size, uint32_t stack = 1) {
  return {time_ns,        ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc,
          StackId{stack}, address,     size};
}
FreeRecord FreeAt(uint64_t time_ns, uint64_t address) {
  return {time_ns, ThreadId{1}, Domain::kHeap, address};
}

// The events of columns, as the analyzer takes them.
class Events : public TraceVisitor {
 public:
  void OnHeapEvents(const ColumnReader& columns) override {
    events.insert(events.end(), columns.events(), columns.events() + columns.count());
  }
  void OnColumnsEnd(const ColumnReader&) override { ++ends; }

  std::vector<ColumnEvent> events;
  int ends = 0;
};

using Kind = ColumnEvent::Kind;

TEST(Columns, FreesReferToBlocks) {
  TraceBuilder builder;
  for (uint64_t i = 0; i < 100; ++i) builder.Add(AllocAt(i, 0x1000 + 64 * i, 40));
  for (uint64_t i = 0; i < 100; ++i) builder.Add(FreeAt(200, 0x1000 + 64 * i));  // the oldest first
  builder.Add(FreeAt(300, 0x9000));
  Events got;
  ASSERT_TRUE(ReadColumns(ColumnsOf(builder.records()), got).ok());
  ASSERT_EQ(got.events.size(), 201u);
  for (uint32_t i = 0; i < 100; ++i) {
    EXPECT_EQ(got.events[i].kind, Kind::kAlloc);
    EXPECT_EQ(got.events[i].block, i + 1);
    EXPECT_TRUE(got.events[i].fresh);
    EXPECT_EQ(got.events[100 + i].kind, Kind::kFree);
    EXPECT_EQ(got.events[100 + i].block, i + 1);
    EXPECT_EQ(got.events[100 + i].entry, got.events[i].entry);
    EXPECT_EQ(got.events[100 + i].size, 40u);
  }
  EXPECT_EQ(got.events[200].block, 0u);
  EXPECT_EQ(got.events[200].address, 0x9000u);
  EXPECT_EQ(got.ends, 1);
}

TEST(Columns, ABlockWhoseFreeWasLostIsReplaced) {
  TraceBuilder builder;
  std::vector<std::pair<Kind, uint32_t>> expected;
  for (uint32_t i = 0; i < 10; ++i) {
    builder.Add(AllocAt(i * 5000, 0x1000, 40));
    builder.Add(AllocAt(i * 5000, 0x1000, 50, 2));
    builder.Add(FreeAt(i * 5000, 0x1000));
    expected.insert(expected.end(), {{Kind::kAlloc, 2 * i + 1},
                                     {Kind::kReplaced, 2 * i + 1},
                                     {Kind::kAlloc, 2 * i + 2},
                                     {Kind::kFree, 2 * i + 2}});
  }
  Events got;
  ASSERT_TRUE(ReadColumns(ColumnsOf(builder.records()), got).ok());
  std::vector<std::pair<Kind, uint32_t>> events;
  for (const ColumnEvent& event : got.events) events.emplace_back(event.kind, event.block);
  EXPECT_THAT(events, ElementsAreArray(expected));
}

// An alloc at an address that nothing in the chunk has freed: a block of an earlier chunk may be
// there.
TEST(Columns, AllocsSayWhetherTheirAddressIsFresh) {
  TraceBuilder builder;
  builder.Add(AllocAt(0, 0x1000, 40));  // fresh
  builder.Add(AllocAt(0, 0x1030, 40));  // fresh: behind the block before
  builder.Add(FreeAt(0, 0x1000));
  builder.Add(AllocAt(0, 0x1000, 40));   // not
  builder.Add(FreeAt(0, 0x8000));        // of an earlier chunk
  builder.Add(AllocAt(0, 0x8000, 500));  // not
  for (uint64_t i = 0; i < 20; ++i) builder.Add(AllocAt(i * 5000, 0x100000 + i * 4096, 24));
  Events got;
  ASSERT_TRUE(ReadColumns(ColumnsOf(builder.records()), got).ok());
  std::vector<bool> fresh;
  for (const ColumnEvent& event : got.events) fresh.push_back(event.fresh);
  fresh.resize(6);
  EXPECT_THAT(fresh, ElementsAre(true, true, false, false, false, false));
}

TEST(Columns, ExtremeRecords) {
  constexpr uint64_t kMax64 = ~uint64_t{0};
  constexpr uint32_t kMax32 = ~uint32_t{0};
  TraceBuilder builder;
  for (int i = 0; i < 20; ++i) {
    builder.Add(AllocRecord{kMax64, ThreadId{kMax32}, Domain::kHeap,
                            static_cast<AllocFunction>(255), StackId{kMax32}, kMax64,
                            kMaxColumnSize - 1});
    builder.Add(
        AllocRecord{0, ThreadId{0}, Domain::kHeap, AllocFunction::kMalloc, StackId{0}, 0, 0});
    builder.Add(FreeRecord{uint64_t{1} << 63, ThreadId{1}, Domain::kHeap, uint64_t{1} << 63});
    builder.Add(FreeRecord{kMax64, ThreadId{1}, Domain::kHeap, kMax64});
    builder.Add(NodeRecord{StackId{kMax32}, StackId{kMax32}, ModuleId{kMax32}, kMax64, 1});
    builder.Add(NodeRecord{StackId{0}, StackId{0}, ModuleId{0}, 0, 0});
    builder.Add(NodeRecord{StackId{1}, StackId{kMax32}, ModuleId{1}, 1, 0});
  }
  ExpectSame(builder.records());
}

// What columns cannot say stays as it is: the writer then writes the records.
TEST(Columns, SomeRecordsAreLeftAsTheyAre) {
  TraceBuilder many;
  for (uint64_t i = 0; i < 100; ++i) many.Add(AllocAt(i * 5000, 0x1000 + i * 4096, 24));
  const std::string records = many.records();
  EXPECT_NE(ColumnsOf(records), "");

  TraceBuilder huge;
  huge.Add(AllocAt(5, 0x1000, kMaxColumnSize));
  EXPECT_EQ(ColumnsOf(records + huge.records()), "");
  EXPECT_EQ(ColumnsOf(records + "\x07"), "");                       // an unknown event
  EXPECT_EQ(ColumnsOf(records.substr(0, records.size() - 1)), "");  // a cut one
  TraceBuilder other;
  other.Add(MessageRecord{1, TextOf("smaller as it is")});
  EXPECT_EQ(ColumnsOf(other.records()), "");
  EXPECT_EQ(ColumnsOf(""), "");
  std::string longer = records;
  while (longer.size() <= ColumnWriter::kMaxRecordsBytes) longer += records;
  EXPECT_EQ(ColumnsOf(longer), "");
}

TEST(Columns, NodeOfALaterVersionStaysARecord) {
  TraceBuilder builder;
  for (int i = 0; i < 100; ++i) builder.Add(AllocAt(5, 0x1000 + 64 * static_cast<uint64_t>(i), 24));
  builder.Add(NodeRecord{StackId{7}, StackId{0}, ModuleId{1}, 0x4000, 255});
  ExpectSame(builder.records());
}

// A record and what comes after it keep their order; nodes move up to the record before them.
TEST(Columns, OrderOfRecords) {
  TraceBuilder builder;
  const auto events = [&](uint64_t time_ns) {
    for (uint64_t i = 0; i < 30; ++i) builder.Add(AllocAt(time_ns, 0x1000 + 64 * i, 24));
    for (uint64_t i = 0; i < 30; ++i) builder.Add(FreeAt(time_ns, 0x1000 + 64 * i));
  };
  events(1 << 20);
  builder.Add(ModuleRecord{ModuleId{1}, 5, 1, 2, 3, {}, TextOf("/l")});
  events(2 << 20);
  builder.Add(NodeRecord{StackId{1}, StackId{0}, ModuleId{1}, 0x4000, 0});
  builder.Add(EndRecord{9, EndKind::kExited});

  std::vector<std::string> kinds;
  RecordText text([&](absl::string_view line) {
    const std::string kind(line.substr(0, line.find(' ')));
    if (kinds.empty() || kinds.back() != kind) kinds.push_back(kind);
  });
  ASSERT_TRUE(ReadColumns(ColumnsOf(builder.records()), text).ok());
  EXPECT_THAT(kinds, ElementsAre("alloc", "free", "module", "node", "alloc", "free", "end"));
}

// Columns that were cut or changed give what they give, then perhaps an error, never more events
// than there is room for.
TEST(Columns, DamagedOnesAreSafe) {
  Program program(7);
  program.Steps(600);
  program.LoseFree();
  const std::string columns = ColumnsOf(program.builder().records());
  ASSERT_NE(columns, "");
  int bad = 0;
  for (size_t size = 0; size < columns.size(); ++size) {
    Lines lines;
    EXPECT_TRUE(absl::IsDataLoss(ReadColumns(columns.substr(0, size), lines))) << size;
    EXPECT_THAT(lines.lines, IsEmpty());  // the sizes don't add up
  }
  std::mt19937_64 random(1);
  for (size_t at = 0; at < columns.size(); ++at) {
    std::string damaged = columns;
    damaged[at] = static_cast<char>(damaged[at] ^ (1 << random() % 8));
    Lines lines;
    if (!ReadColumns(damaged, lines).ok()) ++bad;
    EXPECT_LE(lines.lines.size(), 2 * kMaxColumnEvents);
  }
  EXPECT_GT(bad, 0);
  for (int i = 0; i < 2000; ++i) {
    std::string damaged = columns;
    for (uint64_t changes = 1 + random() % 20; changes > 0; --changes) {
      damaged[random() % damaged.size()] = static_cast<char>(random());
    }
    Lines lines;
    ReadColumns(damaged, lines).IgnoreError();
  }
}

// What was before the bad event counts.
TEST(Columns, EventsBeforeABadOneAreDelivered) {
  TraceBuilder builder;
  for (uint64_t i = 0; i < 50; ++i) builder.Add(AllocAt(1, 0x1000 + 64 * i, 24));
  std::string columns = ColumnsOf(builder.records());
  ASSERT_NE(columns, "");
  // The first column is that of the kinds: a thread and 50 events, behind the head.
  ASSERT_EQ(static_cast<uint8_t>(columns[1]), 51);
  const size_t kinds = 1 + columns.size() - [&] {
    const uint8_t* p = reinterpret_cast<const uint8_t*>(columns.data()) + 1;
    size_t sizes = 0;
    for (uint32_t c = 0; c < kColumnCount; ++c) {
      size_t size = 0;
      for (unsigned shift = 0;; shift += 7) {
        size |= static_cast<size_t>(*p & 0x7f) << shift;
        if (*p++ < 0x80) break;
      }
      sizes += size;
    }
    return sizes + 1;
  }();
  columns[kinds + 31] = 0x55;
  Events got;
  EXPECT_TRUE(absl::IsDataLoss(ReadColumns(columns, got)));
  EXPECT_EQ(got.events.size(), 30u);
  EXPECT_EQ(got.ends, 1);
}

}  // namespace
}  // namespace ollamatrace
