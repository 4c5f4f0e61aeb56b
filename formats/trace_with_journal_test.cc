// ReadTrace with a journal beside the trace: left behind, or of a living process (this one).
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "formats/record_text.h"
#include "formats/test_journal.h"
#include "formats/test_trace.h"
#include "formats/trace_reader.h"

namespace ollamatrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

struct Reading {
  absl::Status status;
  ReadSummary summary;
  std::vector<std::string> lines;
};

Reading Read(const std::string& path) {
  Reading reading;
  RecordText text([&](absl::string_view line) { reading.lines.emplace_back(line); });
  absl::StatusOr<ReadSummary> summary = ReadTrace(path, text);
  reading.status = summary.status();
  if (summary.ok()) reading.summary = *std::move(summary);
  return reading;
}

uint64_t ThisProcessStart() {
  std::ifstream in("/proc/self/stat");
  std::string line;
  std::getline(in, line);
  const std::vector<std::string> fields = absl::StrSplit(line.substr(line.rfind(") ") + 2), ' ');
  return std::stoull(fields[22 - 3]);
}

class TraceWithJournal : public ::testing::Test {
 protected:
  TraceWithJournal() {
    folder_ = absl::StrCat(testing::TempDir(), "/",
                           testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_);
    journal_ = std::make_unique<TestJournal>(journal_path());
    HeaderRecord header;
    header.pid = kTestPid;
    trace_.Add(header);
    identity_ = trace_.records();
    journal_->SetIdentity(identity_);
    trace_.Add(LossRecord{1, LossKind::kOther, 1});
    trace_.CloseChunk();
    trace_.Add(LossRecord{2, LossKind::kOther, 2});
    trace_.CloseChunk();
    journal_->Attach(0, 1);
    journal_->Publish(0, EventKind::kAlloc, 0x10, 8);
    journal_->header().trace_end = trace_.bytes().size();
  }
  ~TraceWithJournal() override { std::filesystem::remove_all(folder_); }

  std::string trace_path() const { return folder_ + "/a.1.2.zst"; }
  std::string journal_path() const { return folder_ + "/a.1.2.journal"; }
  void WriteTrace(absl::string_view bytes) {
    std::ofstream(trace_path(), std::ios::binary)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }

  std::string folder_;
  std::unique_ptr<TestJournal> journal_;
  TraceBuilder trace_;
  std::string identity_;
};

TEST_F(TraceWithJournal, BothAreRead) {
  WriteTrace(trace_.bytes());
  for (const std::string& path : {trace_path(), journal_path()}) {
    const Reading reading = Read(path);
    ASSERT_TRUE(reading.status.ok()) << reading.status;
    EXPECT_THAT(reading.lines, ElementsAre(HasSubstr("pid=4242"), StartsWith("loss t=1"),
                                           StartsWith("loss t=2"), StartsWith("alloc")));
    EXPECT_TRUE(reading.summary.has_journal);
    EXPECT_FALSE(reading.summary.owner_alive);
    EXPECT_FALSE(reading.summary.complete);
    EXPECT_THAT(reading.summary.notes, IsEmpty());
  }
}

TEST_F(TraceWithJournal, BytesThatAreNotCommittedAreNotRead) {
  const size_t committed = trace_.bytes().size();
  trace_.Add(LossRecord{3, LossKind::kOther, 3});
  trace_.CloseChunk();
  for (size_t size = committed; size <= trace_.bytes().size(); ++size) {
    WriteTrace(trace_.bytes().substr(0, size));
    const Reading reading = Read(trace_path());
    EXPECT_EQ(reading.lines.size(), 4u);
    EXPECT_EQ(reading.summary.chunks, 2u);
    EXPECT_FALSE(reading.summary.truncated);
    EXPECT_THAT(reading.summary.notes, IsEmpty());
  }
}

TEST_F(TraceWithJournal, ACutTraceIsSaid) {
  WriteTrace(trace_.bytes().substr(0, trace_.bytes().size() - 1));
  const Reading reading = Read(trace_path());
  ASSERT_TRUE(reading.status.ok());
  EXPECT_TRUE(reading.summary.truncated);
  EXPECT_EQ(reading.summary.chunks, 1u);
  EXPECT_THAT(reading.lines,
              ElementsAre(StartsWith("header"), StartsWith("loss t=1"), StartsWith("alloc")));
}

TEST_F(TraceWithJournal, TheTraceIsMissing) {
  const Reading reading = Read(journal_path());
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_THAT(reading.lines, ElementsAre(HasSubstr("pid=4242"), StartsWith("alloc")));
  EXPECT_TRUE(reading.summary.truncated);
  EXPECT_THAT(reading.summary.notes, ElementsAre(HasSubstr("missing")));
  EXPECT_TRUE(Read(trace_path()).status.ok());  // named, and gone: its journal is there
}

TEST_F(TraceWithJournal, NothingWasWrittenYet) {
  WriteTrace("");
  journal_->header().trace_end = 0;
  const Reading reading = Read(trace_path());
  ASSERT_TRUE(reading.status.ok()) << reading.status;
  EXPECT_THAT(reading.lines, ElementsAre(HasSubstr("pid=4242"), StartsWith("alloc")));
  EXPECT_THAT(reading.summary.notes, IsEmpty());
}

TEST_F(TraceWithJournal, TheHeaderOfADamagedTraceIsTheJournals) {
  std::string bytes = trace_.bytes();
  bytes[70] ^= 1;
  WriteTrace(bytes);
  const Reading reading = Read(trace_path());
  EXPECT_THAT(reading.lines,
              ElementsAre(HasSubstr("pid=4242"), StartsWith("loss t=2"), StartsWith("alloc")));
  EXPECT_EQ(reading.summary.damaged_chunks, 1u);
}

TEST_F(TraceWithJournal, AFinishedJournalAddsNothing) {
  trace_.Add(EndRecord{3, EndKind::kExited});
  trace_.CloseChunk();
  WriteTrace(trace_.bytes());
  journal_->header().state = static_cast<uint32_t>(JournalState::kFinished);
  const Reading reading = Read(trace_path());
  EXPECT_THAT(reading.lines, ElementsAre(StartsWith("header"), StartsWith("loss"),
                                         StartsWith("loss"), StartsWith("end")));
  EXPECT_FALSE(reading.summary.has_journal);
  EXPECT_TRUE(reading.summary.complete);
  EXPECT_THAT(reading.summary.notes, IsEmpty());
}

TEST_F(TraceWithJournal, AStoppedJournalIsPartOfTheTrace) {
  WriteTrace(trace_.bytes());
  journal_->header().state = static_cast<uint32_t>(JournalState::kStopped);
  const Reading reading = Read(trace_path());
  EXPECT_EQ(reading.lines.size(), 4u);
  EXPECT_TRUE(reading.summary.has_journal);
}

TEST_F(TraceWithJournal, UnusableJournals) {
  const std::vector<std::pair<std::string, std::function<void(JournalHeader&)>>> damages = {
      {"begun", [](JournalHeader& header) { header.state = 0; }},
      {"version 9", [](JournalHeader& header) { header.version = 9; }},
      {"not a journal", [](JournalHeader& header) { header.magic[0] = 'x'; }},
  };
  for (const auto& [text, damage] : damages) {
    journal_ = std::make_unique<TestJournal>(journal_path());
    journal_->SetIdentity(identity_);
    damage(journal_->header());
    WriteTrace(trace_.bytes());
    Reading reading = Read(trace_path());
    ASSERT_TRUE(reading.status.ok());
    EXPECT_EQ(reading.lines.size(), 3u);
    EXPECT_THAT(reading.summary.notes,
                ElementsAre(AllOf(StartsWith("journal ignored: "), HasSubstr(text))));
    std::filesystem::remove(trace_path());
    reading = Read(journal_path());
    EXPECT_FALSE(reading.status.ok());
    EXPECT_THAT(std::string(reading.status.message()),
                AllOf(HasSubstr(text), StartsWith(journal_path())));
  }
}

// ---- Living owners ------------------------------------------------------------------------------

class LivingOwner : public TraceWithJournal {
 protected:
  LivingOwner() {
    JournalHeader& header = journal_->header();
    header.pid = static_cast<uint32_t>(getpid());
    header.process_start = ThisProcessStart();
    WriteTrace(trace_.bytes());
  }
};

TEST_F(LivingOwner, IsSeenAndThePauseIsTakenBack) {
  const Reading reading = Read(trace_path());
  EXPECT_EQ(reading.lines.size(), 4u);
  EXPECT_TRUE(reading.summary.owner_alive);
  EXPECT_EQ(journal_->header().pause_until, 0u);
}

TEST_F(LivingOwner, AnotherProcessOfThatPidIsNot) {
  ++journal_->header().process_start;
  EXPECT_FALSE(Read(trace_path()).summary.owner_alive);
}

TEST_F(LivingOwner, StoppedWithinABatch) {
  journal_->Begin();
  journal_->Change(journal_->ring(0).tail, uint64_t{1});
  const Reading reading = Read(trace_path());
  ASSERT_TRUE(reading.status.ok());
  EXPECT_EQ(reading.lines.size(), 4u);  // the undo log serves
  EXPECT_THAT(reading.summary.notes, IsEmpty());
}

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// Readers see one moment, whatever the drain and the producers do meanwhile. Two threads pass
// blocks on, so that every free has its alloc in the other ring; the drain moves events from the
// rings to the pool. Whatever the moment: each address is live or not, and no event comes
// without the one before it.
TEST_F(LivingOwner, EveryReadingIsOneMoment) {
  constexpr uint64_t kBlocks = 24;
  const auto address = [](uint64_t i) { return 0x100000 + i * 0x1000; };
  const uint64_t first_alloc = journal_->ring(0).head;
  journal_->ring(0).tail = first_alloc;  // the event of the other tests
  // Looked at long after ring 0.
  constexpr uint32_t kFar = kMaxRings - 1;
  journal_->Attach(kFar, 2);
  std::atomic<bool> stop = false;
  std::atomic<uint64_t> passes = 0;

  // One thread plays both producers in turn: an alloc by ring 0 and its free by the far ring. It
  // waits for room as a producer does.
  std::thread producers([&] {
    while (!stop) {
      for (uint64_t i = 0; i < kBlocks && !stop; ++i) {
        for (const uint32_t ring : {0u, kFar}) {
          while (!stop &&
                 journal_->ring(ring).head - journal_->ring(ring).released >= kSmallRingEvents) {
            std::this_thread::yield();
          }
          if (stop) return;
          // Not so fast that the rings are full before a reader has looked at them.
          for (int spin = 0; spin < 20000; ++spin) stop.load();
          journal_->Publish(ring, ring == 0 ? EventKind::kAlloc : EventKind::kFree, address(i), 8);
        }
      }
      ++passes;
    }
  });
  // The drain takes all there is: the pool holds what is allocated and not freed.
  std::thread drain([&] {
    std::map<uint64_t, uint32_t> entries;
    for (uint64_t i = 0; i < kBlocks; ++i) entries[address(i)] = static_cast<uint32_t>(i + 1);
    journal_->header().pool_used = kBlocks + 1;
    while (!stop) {
      const uint64_t until = journal_->header().pause_until;
      const uint64_t now = NowNs();
      const bool paused = until > now && until - now <= kPauseNs;
      // Some events at a time, so that readers find events in the rings.
      if (paused || journal_->ring(0).head - journal_->ring(0).tail < 32) {
        std::this_thread::yield();
        continue;
      }
      journal_->Begin();
      // Frees first, up to what was there at this moment; then their allocs, which were published
      // before them, and one more.
      const uint64_t frees = journal_->ring(kFar).head.load(std::memory_order_acquire);
      const uint64_t allocs =
          std::min(journal_->ring(0).head.load(std::memory_order_acquire), first_alloc + frees + 1);
      const uint64_t free_tail = journal_->ring(kFar).tail, alloc_tail = journal_->ring(0).tail;
      std::map<uint64_t, int64_t> change;
      const auto at = [&](uint32_t ring, uint64_t i) {
        return reinterpret_cast<Event*>(journal_->base() +
                                        RingDataOffset(ring))[i % RingCapacity(ring)];
      };
      for (uint64_t i = alloc_tail; i < allocs; ++i) ++change[at(0, i).address];
      for (uint64_t i = free_tail; i < frees; ++i) --change[at(kFar, i).address];
      for (const auto& [block, sum] : change) {
        if (sum == 0) continue;
        BlockEntry& entry = journal_->block(entries[block]);
        entry.packed = 8;
        journal_->Change(entry.address, sum > 0 ? block : 0);
      }
      journal_->Change(journal_->ring(0).tail, allocs);
      journal_->Change(journal_->ring(kFar).tail, frees);
      journal_->Commit();
      journal_->ring(0).released.store(allocs, std::memory_order_release);
      journal_->ring(kFar).released.store(frees, std::memory_order_release);
    }
  });

  class Blocks : public TraceVisitor {
   public:
    void OnAlloc(const AllocRecord& record) override {
      EXPECT_FALSE(live[record.address]) << "allocated over a live block";
      live[record.address] = true;
      ++events;
    }
    void OnFree(const FreeRecord& record) override {
      EXPECT_TRUE(live[record.address]) << "freed and never allocated";
      live[record.address] = false;
      ++events;
    }
    std::map<uint64_t, bool> live;
    uint64_t events = 0;
  };
  uint64_t events = 0;
  for (int i = 0; i < 200 || passes < 20; ++i) {
    Blocks blocks;
    const absl::StatusOr<ReadSummary> summary = ReadTrace(trace_path(), blocks);
    EXPECT_TRUE(summary.ok()) << summary.status();
    if (!summary.ok()) break;
    EXPECT_TRUE(summary->owner_alive);
    EXPECT_THAT(summary->notes, IsEmpty());
    int live = 0;
    for (const auto& [block, is_live] : blocks.live) live += is_live;
    EXPECT_LE(live, 1);  // one is passed on at a time
    events += blocks.events;
    if (HasFailure()) break;
  }
  stop = true;
  producers.join();
  drain.join();
  EXPECT_GT(events, 0u);
}

// A real owner that is killed in the middle of its work.
TEST_F(TraceWithJournal, AnOwnerThatIsKilled) {
  WriteTrace(trace_.bytes());
  int ready[2];
  ASSERT_EQ(pipe(ready), 0);
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    journal_->header().pid = static_cast<uint32_t>(getpid());
    journal_->header().process_start = ThisProcessStart();
    journal_->Publish(0, EventKind::kAlloc, 0x20, 8);
    journal_->Begin();
    journal_->Change(journal_->ring(0).tail, uint64_t{2});
    if (write(ready[1], "x", 1) != 1) _exit(1);
    for (;;) pause();
  }
  char byte;
  ASSERT_EQ(read(ready[0], &byte, 1), 1);
  Reading reading = Read(trace_path());
  EXPECT_TRUE(reading.summary.owner_alive);
  EXPECT_EQ(reading.lines.size(), 5u);
  ASSERT_EQ(kill(child, SIGKILL), 0);
  ASSERT_EQ(waitpid(child, nullptr, 0), child);
  reading = Read(trace_path());
  EXPECT_FALSE(reading.summary.owner_alive);
  EXPECT_EQ(reading.lines.size(), 5u);
  EXPECT_THAT(reading.summary.notes, IsEmpty());
  close(ready[0]);
  close(ready[1]);
}

}  // namespace
}  // namespace ollamatrace
