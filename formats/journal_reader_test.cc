#include "formats/journal_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "formats/byte_source.h"
#include "formats/event_order.h"
#include "formats/record_text.h"
#include "formats/test_journal.h"
#include "formats/test_trace.h"

namespace ollamatrace {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::IsSupersetOf;
using ::testing::Not;
using ::testing::StartsWith;
using ::testing::UnorderedElementsAre;

using Lines = std::vector<std::string>;

struct Reading {
  absl::Status status;
  ReadSummary summary;
  JournalSnapshot snapshot;
  Lines lines;
};

Reading Deliver(JournalSnapshot snapshot) {
  Reading reading;
  RecordText text([&](absl::string_view line) { reading.lines.emplace_back(line); });
  RecordDecoder decoder(text);
  DeliverJournal(snapshot, decoder, text, reading.summary);
  reading.snapshot = std::move(snapshot);
  return reading;
}

Reading Read(const TestJournal& journal, uint64_t size = kJournalBytes) {
  MemorySource source(journal.bytes(size));
  absl::StatusOr<JournalSnapshot> snapshot = ReadJournal(source);
  if (!snapshot.ok()) return {snapshot.status(), {}, {}, {}};
  return Deliver(*std::move(snapshot));
}

// "alloc 0x10" of "alloc t=... address=0x10 ...", for the events.
Lines Short(const Lines& lines) {
  Lines result;
  for (const std::string& line : lines) {
    const std::string kind = line.substr(0, line.find(' '));
    const size_t at = line.find("address=");
    if (kind == "node" || at == std::string::npos) continue;
    result.push_back(absl::StrCat(kind, " ", line.substr(at + 8, line.find(' ', at) - at - 8)));
  }
  return result;
}

Lines EventsOf(const TestJournal& journal) { return Short(Read(journal).lines); }

std::string HeaderOf(uint32_t pid) {
  TraceBuilder builder;
  HeaderRecord header;
  header.pid = pid;
  builder.Add(header);
  return builder.records();
}

template <typename Record>
std::string Encoded(const Record& record) {
  TraceBuilder builder;
  builder.Add(record);
  return builder.records();
}

// ---- What is no journal -------------------------------------------------------------------------

TEST(JournalReader, RefusesWhatIsNoJournal) {
  TestJournal journal;
  EXPECT_TRUE(Read(journal).status.ok());
  EXPECT_TRUE(absl::IsInvalidArgument(Read(journal, 0).status));
  EXPECT_TRUE(absl::IsInvalidArgument(Read(journal, kJournalPage - 1).status));
  journal.header().state = 4;
  EXPECT_TRUE(absl::IsInvalidArgument(Read(journal).status));
  journal.header().state = 1;
  journal.header().magic[0] ^= 1;
  EXPECT_TRUE(absl::IsInvalidArgument(Read(journal).status));
}

TEST(JournalReader, RefusesAnotherVersionByBothNames) {
  TestJournal journal;
  journal.header().version = 77;
  const absl::Status status = Read(journal).status;
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("77"), HasSubstr(absl::StrCat("version ", kJournalVersion))));
}

// ---- What the drain holds -----------------------------------------------------------------------

TEST(JournalReader, DeliversEverythingOnceAndInOrder) {
  TestJournal journal;
  journal.SetIdentity(HeaderOf(kTestPid));
  journal.Define(Encoded(ModuleRecord{ModuleId{1}, 1, 2, 3, 4, {}, TextOf("/lib/a.so")}));
  journal.Define(Encoded(ThreadRecord{ThreadId{1}, 1, 4242, TextOf("main")}));
  journal.Define(Encoded(ModuleUnloadRecord{ModuleId{1}, 9}));
  journal.Define(Encoded(ThreadEndRecord{ThreadId{1}, 9}));
  journal.Define(Encoded(MessageRecord{3, TextOf("hello")}));
  journal.node(1) = {0x1000, 2, 1};
  journal.node(2) = {0x2000, 0, 1 | kNodeExact};
  journal.node(4) = {0x4000, 1, 0};  // 3 was taken by a thread that was killed before it filled it
  journal.header().next_node = 5;
  const std::string staged = Encoded(FreeRecord{5, ThreadId{1}, Domain::kHeap, 0x50});
  memcpy(journal.staging(), staged.data(), staged.size());
  memcpy(journal.staging() + staged.size(), staged.data(), staged.size());  // not committed
  journal.header().staged_bytes = static_cast<uint32_t>(staged.size());
  journal.block(3) = {0x60, PackEvent({}, {}, 0, 100) | uint64_t{2} << 48, 6, 4, 1};
  journal.block(4) = {0x70 | uint64_t{8} << 56, PackEvent({}, {}, 8, 200) | uint64_t{7} << 48, 7, 4,
                      1};
  journal.header().pool_used = 5;
  journal.block(5) = {0x80, 0, 7, 4, 1};  // beyond pool_used
  journal.mapping(9) = {4096, 0x9000, 8, 4, 1, static_cast<uint32_t>(AllocFunction::kMmap),
                        3,    1,      0};
  journal.counter(1) = {4, 0, 10, 20, 30, 40, 50, 60, 70};
  journal.counter(2) = {4, 8 | kWeightSlot, 11, 21, 31, 41, 0, 0, 0};
  journal.header().counters_used = 3;
  journal.header().losses[static_cast<size_t>(LossKind::kDiskFull)] = 3;
  journal.header().anchors = {0, 0, 99, 99};
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kAlloc, 0xa0, 16, 0, 10, 4, AllocFunction::kAligned);
  journal.Publish(0, EventKind::kFree, 0x60, 0, 0, 11);
  journal.Publish(0, EventKind::kMap, 0xb000, 8192, kMapSharedAnonymous << 4 | kMapFixed | 5, 12, 2,
                  AllocFunction::kMremap);
  journal.Publish(0, EventKind::kUnmap, 0x9000, 4096, 0, 13);

  const Reading reading = Read(journal);
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_THAT(reading.summary.notes, IsEmpty());
  EXPECT_THAT(
      reading.lines,
      ElementsAre(
          HasSubstr("pid=4242"), StartsWith("module id=1"), StartsWith("thread id=1"),
          "node id=1 parent=2 module=1 address=0x1000 exact=0",
          "node id=2 parent=0 module=1 address=0x2000 exact=1",
          "node id=4 parent=1 module=0 address=0x4000 exact=0",
          "free t=5 thread=1 domain=0 address=0x50",
          "alloc t=6 thread=1 domain=0 function=2 stack=4 address=0x60 size=100",
          "alloc t=7 thread=1 domain=8 function=7 stack=4 address=0x70 size=200",
          "map t=8 thread=1 function=4 stack=4 address=0x9000 length=4096 protection=3 kind=1",
          "alloc t=10 thread=1 domain=0 function=3 stack=4 address=0xa0 size=16",
          "free t=11 thread=1 domain=0 address=0x60",
          "map t=12 thread=1 function=5 stack=2 address=0xb000 length=8192 protection=5 kind=3",
          "unmap t=13 thread=1 address=0x9000 length=4096",
          "counters stack=4 domain=0 pairs=10 bytes=20 lifetime_ns=30 peak_bytes=50 first_ns=60 "
          "last_ns=70",
          "weights stack=4 domain=8 blocks=11 bytes=21 blocks_variance=31 bytes_variance=41",
          StartsWith("module_unload"), StartsWith("thread_end"), StartsWith("message"),
          "loss t=99 kind=4 events=3"));
}

TEST(JournalReader, AStagedHeaderIsNotDeliveredTwice) {
  TestJournal journal;
  journal.SetIdentity(HeaderOf(1));
  const std::string staged = HeaderOf(1) + Encoded(EndRecord{5, EndKind::kStopped});
  memcpy(journal.staging(), staged.data(), staged.size());
  journal.header().staged_bytes = static_cast<uint32_t>(staged.size());
  EXPECT_THAT(Read(journal).lines, ElementsAre(StartsWith("header"), StartsWith("end")));
}

TEST(JournalReader, TicksBecomeNanoseconds) {
  TestJournal journal;
  journal.header().anchors = {1000, 50'000, 2000, 60'000};  // ten ns a tick
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kFree, 0x10, 0, 0, 1500);
  journal.Publish(0, EventKind::kFree, 0x10, 0, 0, 2001);
  EXPECT_THAT(Read(journal).lines, ElementsAre(HasSubstr("t=55000 "), HasSubstr("t=60010 ")));
}

TEST(JournalReader, DefinitionsWrapAroundTheirRing) {
  TestJournal journal;
  const std::string record = Encoded(MessageRecord{1, TextOf("0123456789")});
  const uint64_t entry = record.size() + 4;
  for (uint64_t before = 0; before <= entry; ++before) {
    const uint64_t tail = 5 * uint64_t{kDefinitionsBytes} - before;
    journal.header().definitions_tail = tail;
    journal.header().definitions_head = tail;
    journal.Define(record);
    journal.Define(record);
    const Reading reading = Read(journal);
    EXPECT_EQ(reading.lines.size(), 2u) << before;
    EXPECT_THAT(reading.lines, Each(HasSubstr("0123456789")));
    EXPECT_THAT(reading.summary.notes, IsEmpty());
  }
}

// ---- Order --------------------------------------------------------------------------------------

TEST(JournalReader, EventsOfOneAddressComeInTrueOrderAcrossThreads) {
  TestJournal journal;
  for (uint32_t ring = 0; ring < 3; ++ring) journal.Attach(ring, ring + 1);
  for (int i = 0; i < 5; ++i) {
    journal.Publish(2, EventKind::kAlloc, 0x10, 8);
    journal.Publish(0, EventKind::kFree, 0x10);
    journal.Publish(1, EventKind::kAlloc, 0x10, 8);
    journal.Publish(2, EventKind::kFree, 0x10);
  }
  Lines expected;
  for (int i = 0; i < 10; ++i) {
    expected.push_back("alloc 0x10");
    expected.push_back("free 0x10");
  }
  EXPECT_EQ(EventsOf(journal), expected);
}

TEST(JournalReader, SequencesWrap) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Attach(1, 2);
  journal.next_seq(HeapShard(0x10)) = 0xfffffffe;
  for (int i = 0; i < 3; ++i) {
    journal.Publish(1, EventKind::kAlloc, 0x10, 8);
    journal.Publish(0, EventKind::kFree, 0x10);
  }
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "free 0x10", "alloc 0x10", "free 0x10",
                                             "alloc 0x10", "free 0x10"));
}

TEST(JournalReader, GapsAreSteppedOver) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Attach(1, 2);
  journal.PublishAt(0, 100, EventKind::kAlloc, 0x10);
  journal.PublishAt(1, 102, EventKind::kFree, 0x10);
  journal.PublishAt(0, 5000, EventKind::kAlloc, 0x10);
  journal.PublishAt(1, 5001, EventKind::kNothing, 0x10);
  journal.PublishAt(1, 6000, EventKind::kFree, 0x10);
  const Reading reading = Read(journal);
  EXPECT_THAT(Short(reading.lines),
              ElementsAre("alloc 0x10", "free 0x10", "alloc 0x10", "free 0x10"));
  EXPECT_THAT(reading.summary.notes, IsEmpty());
}

TEST(JournalReader, RingsWrap) {
  TestJournal journal;
  for (const uint32_t number : {0u, kLargeRings, kMaxRings - 1}) {
    journal.Attach(number, number + 1);
    RingEntry& ring = journal.ring(number);
    const uint64_t start = 7 * uint64_t{RingCapacity(number)} - 1;
    ring.head = start;
    ring.tail = start;
    for (uint32_t i = 0; i < RingCapacity(number); ++i) {
      journal.Publish(number, EventKind::kAlloc, (uint64_t{number} << 20) + 0x1000 * (i + 1), 8);
    }
  }
  const Reading reading = Read(journal);
  EXPECT_EQ(reading.lines.size(), kLargeRingEvents + 2 * kSmallRingEvents);
  EXPECT_THAT(reading.summary.notes, IsEmpty());
}

// Random threads with random addresses, drained up to a random place: the order per address is the
// one in which the events were made.
TEST(JournalReader, RandomOrdersAreRestored) {
  std::mt19937_64 random(3);
  for (int round = 0; round < 20; ++round) {
    TestJournal journal;
    constexpr uint32_t kRings = 6, kAddresses = 40;
    for (uint32_t ring = 0; ring < kRings; ++ring) journal.Attach(ring, ring + 1);
    std::vector<Lines> expected(kAddresses);
    std::vector<bool> live(kAddresses, false);
    for (int i = 0; i < 3000; ++i) {
      const size_t block = random() % kAddresses;
      const uint64_t address = 0x1000 + 0x800 * block;
      const uint32_t ring = static_cast<uint32_t>(random() % kRings);
      if (random() % 50 == 0) ++journal.next_seq(HeapShard(address));  // a gap
      journal.Publish(ring, live[block] ? EventKind::kFree : EventKind::kAlloc, address, 8);
      expected[block].push_back(
          absl::StrCat(live[block] ? "free 0x" : "alloc 0x", absl::Hex(address)));
      live[block] = !live[block];
    }
    std::vector<Lines> got(kAddresses);
    for (const std::string& line : EventsOf(journal)) {
      const std::vector<std::string> words = absl::StrSplit(line, ' ');
      got[(std::stoull(words[1], nullptr, 16) - 0x1000) / 0x800].push_back(line);
    }
    EXPECT_EQ(got, expected);
  }
}

TEST(JournalReader, ContradictionsEndAndAreNoted) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Attach(1, 2);
  // Each ring's first event is to come after the other's second.
  journal.PublishAt(0, 1, EventKind::kAlloc, 0x1000);
  journal.PublishAt(0, 0, EventKind::kAlloc, 0x2000);
  journal.PublishAt(1, 1, EventKind::kAlloc, 0x2000);
  journal.PublishAt(1, 0, EventKind::kAlloc, 0x1000);
  const Reading reading = Read(journal);
  EXPECT_THAT(Short(reading.lines),
              UnorderedElementsAre("alloc 0x1000", "alloc 0x1000", "alloc 0x2000", "alloc 0x2000"));
  EXPECT_THAT(reading.summary.notes, ElementsAre(HasSubstr("order")));
}

TEST(JournalReader, EqualAndFarSequencesEnd) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Attach(1, 2);
  for (const uint32_t seq : {5u, 5u, 0x80000005u, 0u, 0xffffffffu}) {
    journal.PublishAt(0, seq, EventKind::kAlloc, 0x1000);
    journal.PublishAt(1, seq, EventKind::kAlloc, 0x1000);
  }
  EXPECT_EQ(EventsOf(journal).size(), 10u);
}

// Of a living process only a consistent cut is taken: what is not sure comes when something sure
// comes after it.
TEST(EventOrder, UnsureEventsComeOnlyBeforeSureOnes) {
  const auto event = [](uint64_t address, uint32_t seq) {
    return Event{address, PackEvent(EventKind::kAlloc, {}, 0, 8), 0, 0, seq};
  };
  std::vector<JournalSnapshot::Ring> rings(2);
  // Ring 0 was looked at first; it published (A, 5) before ring 1 published (A, 6).
  rings[0].events = {event(0x1000, 4), event(0x1000, 5), event(0x2000, 1), event(0x1000, 7)};
  rings[0].sure = 1;
  rings[1].events = {event(0x1000, 6), event(0x3000, 1)};
  rings[1].sure = 1;
  std::vector<std::pair<size_t, size_t>> order;
  EXPECT_EQ(ForEachEventInOrder(rings, [&](size_t ring, size_t i) { order.emplace_back(ring, i); }),
            0u);
  EXPECT_THAT(order, ElementsAre(std::pair(0, 0), std::pair(0, 1), std::pair(1, 0)));
}

// ---- Halves -------------------------------------------------------------------------------------

TEST(JournalReader, ReallocMovesABlock) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kAlloc, 0x10, 8);
  journal.Publish(0, EventKind::kReallocFree, 0x10);
  journal.Publish(0, EventKind::kReallocDone, 0x5010, 16, 0, 1, 0, AllocFunction::kRealloc);
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "free 0x10", "alloc 0x5010"));
}

TEST(JournalReader, ReallocThatFailedLeavesItsBlock) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kAlloc, 0x10, 8);
  journal.Publish(0, EventKind::kReallocFree, 0x10);
  journal.Publish(0, EventKind::kReallocFailed, 0x10);
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10"));
}

TEST(JournalReader, ReallocToNothingFrees) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kAlloc, 0x10, 8);
  journal.Publish(0, EventKind::kReallocFree, 0x10);
  journal.Publish(0, EventKind::kReallocFreed, 0x10);
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "free 0x10"));
}

TEST(JournalReader, ReallocWithoutOutcomeFrees) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Attach(1, 2);
  journal.Publish(0, EventKind::kAlloc, 0x10, 8);
  journal.Publish(0, EventKind::kReallocFree, 0x10);
  // Another thread got the address that the realloc gave up.
  journal.Publish(1, EventKind::kAlloc, 0x10, 8);
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "free 0x10", "alloc 0x10"));
}

TEST(JournalReader, AnotherEventAfterReallocFreeMeansItWentThrough) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kReallocFree, 0x10);
  journal.Publish(0, EventKind::kReallocFailed, 0x20);  // of another block: not this one's outcome
  EXPECT_THAT(EventsOf(journal), ElementsAre("free 0x10"));
}

class Limbo : public ::testing::Test {
 protected:
  Limbo() {
    // The drain took the kReallocFree, and its outcome is still to come.
    journal.Attach(0, 7);
    journal.ring(0).limbo_address = 0x10;
    journal.ring(0).limbo_ns = 5;
    journal.block(1) = {0x10, 8 | kBlockLimbo, 3, 0, 7};
    journal.header().pool_used = 3;
  }
  TestJournal journal;
};

TEST_F(Limbo, NoOutcome) {
  EXPECT_THAT(Read(journal).lines,
              ElementsAre(StartsWith("alloc t=3"), "free t=5 thread=7 domain=0 address=0x10"));
}
TEST_F(Limbo, Done) {
  journal.Publish(0, EventKind::kReallocDone, 0x20, 9);
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "free 0x10", "alloc 0x20"));
}
TEST_F(Limbo, Failed) {
  journal.Publish(0, EventKind::kReallocFailed, 0x10);
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10"));
}
TEST_F(Limbo, Freed) {
  journal.Publish(0, EventKind::kReallocFreed, 0x10);
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "free 0x10"));
}
TEST_F(Limbo, TheAddressIsUsedAgain) {
  journal.block(2) = {0x10, 80, 6, 0, 8};
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "free 0x10", "alloc 0x10"));
}
TEST_F(Limbo, OfABlockThatIsInTheTrace) {
  journal.block(1).packed |= kBlockUnknown;
  EXPECT_THAT(EventsOf(journal), ElementsAre("free 0x10"));
  journal.Publish(0, EventKind::kReallocFailed, 0x10);
  EXPECT_THAT(EventsOf(journal), IsEmpty());
}

TEST(JournalReader, Unmaps) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kMap, 0x1000, 4096);
  journal.Publish(0, EventKind::kUnmap, 0x1000, 4096);
  journal.Publish(0, EventKind::kUnmapFailed, 0x1000, 4096);
  journal.Publish(0, EventKind::kUnmap, 0x2000, 4096);
  journal.Publish(0, EventKind::kMap, 0x3000, 4096);
  journal.Publish(0, EventKind::kUnmap, 0x3000, 4096);  // no outcome
  EXPECT_THAT(EventsOf(journal),
              ElementsAre("map 0x1000", "unmap 0x2000", "map 0x3000", "unmap 0x3000"));
}

TEST(JournalReader, PendingUnmaps) {
  TestJournal journal;
  journal.Attach(0, 1);
  journal.Attach(1, 2);
  journal.Attach(2, 3);
  journal.mapping(0) = {4096, 0x1000, 30, 0, 1, 4, 3, 0, 0};  // mapped again after the unmap
  journal.mapping(5) = {4096, 0x1000, 10, 0, 1, 4, 3, 0, 0};
  journal.pending(0) = {4096, 0x1000, 20, 1, 0};
  journal.pending(7) = {4096, 0x2000, 21, 2, 1};  // failed
  journal.pending(9) = {4096, 0x3000, 22, 3, 2};  // another event follows
  journal.pending(10) = {4096, 0x4000, 23, 3, 99};
  journal.Publish(1, EventKind::kUnmapFailed, 0x2000, 4096);
  journal.Publish(2, EventKind::kUnmapFailed, 0x9000, 4096);
  EXPECT_THAT(EventsOf(journal), ElementsAre("map 0x1000", "unmap 0x1000", "unmap 0x3000",
                                             "unmap 0x4000", "map 0x1000"));
}

// ---- Crashes ------------------------------------------------------------------------------------

// A batch of the drain that does everything a batch may do. Whatever store is the last one before a
// kill: what is read is the state of before the batch, or of after it.
TEST(JournalReader, ABatchIsAllOrNothingAtEveryStore) {
  TestJournal journal;
  journal.SetIdentity(HeaderOf(kTestPid));
  for (uint32_t ring = 0; ring < 2; ++ring) journal.Attach(ring, ring + 1);
  journal.Define(Encoded(ThreadRecord{ThreadId{1}, 1, 4242, TextOf("main")}));
  journal.Publish(0, EventKind::kAlloc, 0x10, 8);  // will be folded into counters
  journal.Publish(1, EventKind::kFree, 0x10);
  journal.Publish(0, EventKind::kAlloc, 0x20, 8);     // will be pooled
  journal.Publish(0, EventKind::kReallocFree, 0x30);  // pooled, goes to limbo
  journal.Publish(1, EventKind::kMap, 0x1000, 4096);
  journal.Publish(1, EventKind::kUnmap, 0x1000, 4096);
  journal.Publish(0, EventKind::kReallocFailed, 0x30);
  journal.block(1) = {0x30, 8, 3, 0, 1};
  journal.block(2) = {0x40, 8, 3, 0, 1};  // will be staged
  journal.header().pool_used = 3;
  journal.counter(1) = {1, 0, 1, 1, 1, 1, 1, 1, 1};
  journal.header().counters_used = 2;

  const Lines before = Read(journal).lines;
  size_t steps = 0;
  bool committed = false;
  journal.set_step([&] {
    ++steps;
    if (!committed) {
      EXPECT_EQ(Read(journal).lines, before) << "at store " << steps;
    }
  });
  JournalHeader& header = journal.header();
  journal.Begin();
  // Definitions are staged.
  const std::string staged = Encoded(ThreadRecord{ThreadId{1}, 1, 4242, TextOf("main")}) +
                             Encoded(AllocRecord{3, ThreadId{1}, Domain::kHeap,
                                                 AllocFunction::kMalloc, StackId{0}, 0x40, 8});
  for (size_t i = 0; i < staged.size(); ++i) {
    journal.Store(journal.staging()[i], static_cast<uint8_t>(staged[i]));
  }
  journal.Change(header.staged_bytes, static_cast<uint32_t>(staged.size()));
  journal.Change(header.definitions_tail, header.definitions_head.load());
  journal.Change(journal.block(2).address, uint64_t{0});
  // The pair is folded.
  journal.Log(&journal.counter(1).pairs, 7);
  journal.Store(journal.counter(1).pairs, uint64_t{2});
  journal.Store(journal.counter(1).bytes, uint64_t{9});
  // A block enters the pool, beyond pool_used: its address alone is undone.
  journal.Store(journal.block(3).packed, uint64_t{8});
  journal.Store(journal.block(3).thread, uint32_t{1});
  journal.Change(journal.block(3).address, uint64_t{0x20});
  journal.Change(header.pool_used, uint32_t{4});
  // A counter appears.
  journal.Store(journal.counter(2), CounterSlot{7, 0, 0, 0, 0, 8, 8, 0, 0});
  journal.Change(header.counters_used, uint32_t{3});
  // The realloc goes to limbo.
  journal.Change(journal.block(1).packed, uint64_t{8} | kBlockLimbo);
  journal.Change(journal.ring(0).limbo_address, uint64_t{0x30});
  // The mapping, and its unmap without outcome.
  journal.Store(journal.mapping(2).address, uint64_t{0x1000});
  journal.Change(journal.mapping(2).length, uint64_t{4096});
  journal.Store(journal.pending(1).address, uint64_t{0x1000});
  journal.Store(journal.pending(1).ring, uint32_t{1});
  journal.Change(journal.pending(1).length, uint64_t{4096});
  journal.Change(journal.ring(0).tail, uint64_t{3});
  journal.Change(journal.ring(1).tail, uint64_t{3});
  // The same word twice: the older value counts.
  journal.Change(header.trace_end, uint64_t{100});
  journal.Change(header.trace_end, uint64_t{200});
  committed = true;
  journal.Commit();
  EXPECT_GT(steps, 80u);

  const Reading after = Read(journal);
  EXPECT_EQ(after.snapshot.trace_end, 200u);
  EXPECT_THAT(
      after.lines,
      ElementsAre(StartsWith("header"), StartsWith("thread id=1"), HasSubstr("address=0x40"),
                  HasSubstr("address=0x30"), HasSubstr("address=0x20"), HasSubstr("map t=0"),
                  HasSubstr("unmap t=0"), HasSubstr("pairs=2"), HasSubstr("peak_bytes=8")));
}

TEST(JournalReader, UndoneCountsAreThoseOfBefore) {
  TestJournal journal;
  journal.block(1) = {0x10, 8, 1, 0, 1};
  journal.block(2) = {0x20, 8, 1, 0, 1};
  journal.header().pool_used = 3;
  journal.Begin();
  journal.Change(journal.block(2).address, uint64_t{0});
  journal.Change(journal.header().pool_used, uint32_t{2});  // shrinks
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10", "alloc 0x20"));
}

// ---- Damage -------------------------------------------------------------------------------------

TEST(JournalReader, ImpossibleCountsCostTheirSectionAlone) {
  const std::vector<std::function<void(TestJournal&)>> damages = {
      [](TestJournal& j) { j.header().undo_count = kUndoWords + 1; },
      [](TestJournal& j) { j.header().undo_count = ~uint64_t{0}; },
      [](TestJournal& j) { j.header().staged_bytes = kStagingBytes + 1; },
      [](TestJournal& j) { j.header().pool_used = kMaxBlocks + 1; },
      [](TestJournal& j) { j.header().counters_used = ~uint32_t{0}; },
      [](TestJournal& j) { j.header().next_node = kMaxNodes + 1; },
      [](TestJournal& j) { j.header().identity_bytes = kIdentityBytes + 1; },
      [](TestJournal& j) { j.header().definitions_tail = 1; },
      [](TestJournal& j) { j.header().definitions_head = uint64_t{1} << 40; },
      [](TestJournal& j) { j.ring(1).tail = 1; },
      [](TestJournal& j) { j.ring(1).head = kLargeRingEvents + 1; },
  };
  for (size_t i = 0; i < damages.size(); ++i) {
    TestJournal journal;
    journal.Attach(0, 1);
    journal.Attach(1, 2);
    journal.Publish(0, EventKind::kAlloc, 0x10, 8);
    damages[i](journal);
    const Reading reading = Read(journal);
    ASSERT_TRUE(reading.status.ok()) << i;
    EXPECT_THAT(Short(reading.lines), ElementsAre("alloc 0x10")) << i;
    EXPECT_EQ(reading.summary.notes.size(), 1u) << i;
  }
  TestJournal journal;
  journal.header().rings_used = kMaxRings + 1;
  journal.block(1) = {0x10, 8, 1, 0, 1};
  journal.header().pool_used = 2;
  EXPECT_THAT(EventsOf(journal), ElementsAre("alloc 0x10"));
}

TEST(JournalReader, DamagedUndoLogsAreIgnored) {
  const std::vector<std::vector<uint64_t>> logs = {
      {UndoMark(0, 1)},                             // more words than the log has
      {0, UndoMark(0, 0)},                          // no words: it would never end
      {0, UndoMark(kJournalBytes, 1)},              // behind the file
      {0, UndoMark((uint64_t{1} << 56) - 8, 1)},    //
      {0, UndoMark(kPoolOffset + 33, 1)},           // not a word
      {1, 2, 3, 0, UndoMark(kPoolOffset + 32, 1)},  // garbage below a good entry
  };
  for (const std::vector<uint64_t>& log : logs) {
    TestJournal journal;
    journal.block(1) = {0x10, 8, 1, 0, 1};
    journal.header().pool_used = 2;
    memcpy(journal.undo(), log.data(), log.size() * 8);
    journal.header().undo_count = log.size();
    const Reading reading = Read(journal);
    ASSERT_TRUE(reading.status.ok());
    EXPECT_THAT(Short(reading.lines), ElementsAre("alloc 0x10"));
    EXPECT_THAT(reading.summary.notes, ElementsAre(HasSubstr("undo")));
  }
}

TEST(JournalReader, DamagedDefinitionsKeepTheRest) {
  TestJournal journal;
  const std::string message = Encoded(MessageRecord{1, TextOf("text")});
  journal.Define(message);
  journal.Define("\x02 an event is no definition");
  journal.Define(message.substr(0, 4));  // cut
  journal.Define(message);
  Reading reading = Read(journal);
  EXPECT_EQ(reading.lines.size(), 2u);
  EXPECT_EQ(reading.summary.notes.size(), 2u);
  for (const uint32_t size : {0u, 0x7fffffffu, 0xffffffffu}) {
    TestJournal other;
    other.Define(message);
    const uint64_t head = other.header().definitions_head;
    memcpy(other.base() + kDefinitionsOffset + head, &size, 4);
    other.header().definitions_head = head + 100;
    reading = Read(other);
    EXPECT_EQ(reading.lines.size(), 1u);
    EXPECT_EQ(reading.summary.notes.size(), 1u);
  }
}

TEST(JournalReader, CutFiles) {
  TestJournal journal;
  journal.SetIdentity(HeaderOf(kTestPid));
  journal.Attach(0, 1);
  journal.Publish(0, EventKind::kAlloc, 0x10, 8);
  journal.node(1) = {0x1000, 0, 0};
  journal.header().next_node = 2;
  journal.counter(1) = {1, 0, 1, 1, 1, 1, 1, 1, 1};
  journal.header().counters_used = 2;
  journal.block(1) = {0x20, 8, 1, 0, 1};
  journal.block(2) = {0x30, 8, 1, 0, 1};
  journal.header().pool_used = 3;
  ASSERT_EQ(Read(journal).lines.size(), 6u);
  // One block fits.
  Reading reading = Read(journal, kPoolOffset + 2 * sizeof(BlockEntry) + 5);
  EXPECT_EQ(reading.lines.size(), 5u);
  EXPECT_EQ(reading.summary.notes.size(), 1u);
  const std::pair<uint64_t, size_t> cuts[] = {
      {kPoolOffset, 4},        {kCountersOffset, 3}, {kNodesOffset, 2},    {kRingDataOffset, 1},
      {kRingsOffset, 1},       {kIdentityOffset, 0}, {kMappingsOffset, 0}, {kStagingOffset, 0},
      {kDefinitionsOffset, 0}, {kJournalPage, 0},
  };
  for (const auto& [size, lines] : cuts) {
    reading = Read(journal, size);
    ASSERT_TRUE(reading.status.ok()) << size;
    EXPECT_EQ(reading.lines.size(), lines) << size;
    EXPECT_THAT(reading.summary.notes, Not(IsEmpty()));
  }
}

TEST(JournalReader, RandomDamageNeverCrashesOrHangs) {
  std::mt19937_64 random(7);
  TestJournal journal;
  for (uint32_t ring = 0; ring < 4; ++ring) {
    journal.Attach(ring, ring + 1);
    for (int i = 0; i < 50; ++i) {
      journal.Publish(ring, static_cast<EventKind>(random() % 10), (random() % 64) << 10,
                      random() % 100);
    }
  }
  journal.Define(Encoded(ThreadRecord{ThreadId{1}, 1, 4242, TextOf("main")}));
  journal.Begin();
  for (uint32_t i = 1; i < 30; ++i) journal.Change(journal.block(i).address, uint64_t{i});
  journal.header().pool_used = 30;
  const struct {
    uint64_t offset, size;
  } places[] = {{8, 400},
                {kUndoOffset, 500},
                {kDefinitionsOffset, 60},
                {kRingsOffset, 600},
                {kRingDataOffset, 2000},
                {kPoolOffset, 1000}};
  for (int round = 0; round < 3000; ++round) {
    std::vector<std::pair<uint64_t, uint8_t>> old;
    for (int i = 0; i < 4; ++i) {
      const auto& place = places[random() % std::size(places)];
      const uint64_t at = place.offset + random() % place.size;
      old.emplace_back(at, journal.base()[at]);
      journal.base()[at] = static_cast<uint8_t>(random());
    }
    // The large sections cost time and nothing else.
    journal.header().counters_used = std::min<uint32_t>(journal.header().counters_used, 1000);
    journal.header().pool_used = std::min<uint32_t>(journal.header().pool_used, 1000);
    Read(journal);
    for (size_t i = old.size(); i-- > 0;) journal.base()[old[i].first] = old[i].second;
  }
}

}  // namespace
}  // namespace ollamatrace
