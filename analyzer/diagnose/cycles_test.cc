#include "analyzer/diagnose/cycles.h"

#include <string>
#include <vector>

#include "analyzer/replay/replay.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

constexpr uint64_t kStart = 1'000'000'000'000;
constexpr double kMiB = 1 << 20;

uint64_t At(double seconds) { return kStart + static_cast<uint64_t>(seconds * 1e9); }

class Process {
 public:
  // `dropped`: until when its trace has dropped what came and went.
  Process(uint32_t pid, uint32_t ppid, double start, double dropped = 0)
      : replay_(ReplayOptions{}) {
    HeaderRecord header;
    if (dropped != 0) {
      header.segment = 1;
      header.segment_ns = At(dropped);
    }
    header.pid = pid;
    header.ppid = ppid;
    header.start_ns = At(start);
    replay_.OnHeader(header);
  }
  void Alloc(double time, uint64_t address, uint64_t size) {
    replay_.OnAlloc(
        {At(time), ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc, StackId{1}, address, size});
  }
  void Free(double time, uint64_t address) {
    replay_.OnFree({At(time), ThreadId{1}, Domain::kHeap, address});
  }
  ProcessHistory Exited(double time) {
    replay_.OnEnd({At(time), EndKind::kExited});
    return replay_.Finish({});
  }
  // Nothing is known of it after what it did last.
  ProcessHistory Killed() { return replay_.Finish({}); }

 private:
  Replay replay_;
};

SessionCycles Find(const SessionHistory& session) {
  std::vector<const ProcessHistory*> processes;
  for (const ProcessHistory& process : session.processes) processes.push_back(&process);
  return FindCycles(session, processes);
}

void Phase(SessionHistory& session, double time, const char* name) {
  session.marks.push_back({At(time), std::string(kPhaseMark), name, 0});
}

// A server of 120 s with two cycles; each load brings a runner of 4 and of 5 MiB, which is killed.
SessionHistory TwoCycles() {
  SessionHistory session;
  session.start_ns = kStart;
  Process server(1, 0, 0);
  server.Alloc(0.5, 0x10, 1 << 20);
  for (uint64_t cycle = 0; cycle < 2; ++cycle) {
    const double from = 10 + 50 * static_cast<double>(cycle);
    Phase(session, from, cycle == 0 ? "load" : "reload");
    server.Alloc(from + 2, 0x100 + cycle, 2 << 20);
    server.Alloc(from + 2, 0x200 + cycle, 512 << 10);  // is never freed
    Process runner(10 + static_cast<uint32_t>(cycle), 1, from + 1);
    runner.Alloc(from + 3, 0x10, 6 << 20);
    runner.Alloc(from + 4, 0x20, (4 + cycle) << 20);
    runner.Free(from + 5, 0x10);
    Phase(session, from + 10, "idle");
    Phase(session, from + 30, "unload");
    session.processes.push_back(runner.Killed());
    server.Free(from + 33, 0x100 + cycle);
    Phase(session, from + 40, "end");
  }
  session.processes.push_back(server.Exited(120));
  return session;
}

TEST(Cycles, WhatALoadBroughtAndAnUnloadTook) {
  const SessionCycles found = Find(TwoCycles());
  ASSERT_THAT(found.cycles, SizeIs(2));
  const Cycle& first = found.cycles[0];
  EXPECT_DOUBLE_EQ(first.before_bytes, kMiB);
  EXPECT_DOUBLE_EQ(first.peak_bytes, (1 + 2.5 + 6 + 4) * kMiB);
  EXPECT_DOUBLE_EQ(first.loaded_bytes, (1 + 2.5 + 4) * kMiB);
  EXPECT_DOUBLE_EQ(first.after_bytes, 1.5 * kMiB);
  EXPECT_DOUBLE_EQ(first.survived_bytes, 0.5 * kMiB);
  ASSERT_TRUE(first.recovery_seconds.has_value());
  EXPECT_NEAR(*first.recovery_seconds, 3, 0.6);  // a slot of the time axis
  EXPECT_THAT(first.killed, ElementsAre(0u));
  EXPECT_EQ(first.killed_bytes, 4u << 20);
  EXPECT_THAT(found.cycles[1].killed, ElementsAre(1u));
  EXPECT_EQ(found.cycles[1].killed_bytes, 5u << 20);
  EXPECT_DOUBLE_EQ(found.cycles[1].after_bytes, 2 * kMiB);
}

// The runner is killed when the unload begins, and nothing else happens until it ends.
TEST(Cycles, RecoveredAtTheKill) {
  SessionHistory session;
  session.start_ns = kStart;
  Phase(session, 1, "load");
  Process runner(10, 1, 0.5);
  runner.Alloc(3, 0x10, 6 << 20);
  Phase(session, 20, "unload");
  session.processes.push_back(runner.Killed());
  Phase(session, 30, "end");
  const SessionCycles found = Find(session);
  ASSERT_THAT(found.cycles, SizeIs(1));
  ASSERT_TRUE(found.cycles[0].recovery_seconds.has_value());
  EXPECT_NEAR(*found.cycles[0].recovery_seconds, 0, 1e-6);
}

TEST(Cycles, NoRecovery) {
  SessionHistory session = TwoCycles();
  session.processes.erase(session.processes.begin(), session.processes.begin() + 2);
  Process server(1, 0, 0);
  server.Alloc(12, 0x10, 1 << 20);
  session.processes[0] = server.Exited(120);
  EXPECT_EQ(Find(session).cycles[0].recovery_seconds, std::nullopt);
}

// Of the first cycle nothing is known any more.
TEST(Cycles, BehindDroppedHistory) {
  SessionHistory session = TwoCycles();
  Process server(1, 0, 0, /*dropped=*/30);
  server.Alloc(0.5, 0x10, 1 << 20);
  server.Alloc(62, 0x101, 2 << 20);
  server.Free(93, 0x101);
  session.processes.back() = server.Exited(120);
  const SessionCycles found = Find(session);
  ASSERT_THAT(found.cycles, SizeIs(1));
  EXPECT_EQ(found.cycles[0].unload.loaded, 60);
  EXPECT_EQ(found.cycles[0].before_bytes, 1 << 20);
  for (const PhaseLevels& phase : found.phases) EXPECT_GE(phase.phase.begin, 30);
}

TEST(Cycles, IdleSlope) {
  SessionHistory session;
  session.start_ns = kStart;
  Process server(1, 0, 0);
  for (uint64_t i = 0; i < 100; ++i) server.Alloc(static_cast<double>(i), 0x1000 + i, 1000);
  Phase(session, 0, "load");
  Phase(session, 20, "idle");
  Phase(session, 80, "idle again");
  Phase(session, 83, "end");
  session.processes.push_back(server.Exited(100));
  const SessionCycles found = Find(session);
  ASSERT_THAT(found.phases, SizeIs(4));
  EXPECT_EQ(found.phases[0].idle_per_hour, std::nullopt);
  ASSERT_TRUE(found.phases[1].idle_per_hour.has_value());
  EXPECT_NEAR(found.phases[1].idle_per_hour->slope, 3'600'000, 150'000);
  EXPECT_EQ(found.phases[2].idle_per_hour, std::nullopt);  // too short
  EXPECT_THAT(found.cycles, IsEmpty());
}

TEST(Cycles, ProcessesThatOutliveTheirServer) {
  SessionHistory session;
  session.start_ns = kStart;
  session.processes.push_back(Process(1, 0, 0).Exited(10));
  Process orphan(2, 1, 5);
  orphan.Alloc(30, 0x10, 1);
  session.processes.push_back(orphan.Killed());
  session.processes.push_back(Process(3, 1, 5).Exited(10.5));  // ends with it
  session.processes.push_back(Process(4, 77, 5).Exited(60));   // of a parent that nobody traced
  const SessionCycles found = Find(session);
  ASSERT_THAT(found.orphans, SizeIs(1));
  EXPECT_EQ(found.orphans[0].process, 1u);
  EXPECT_EQ(found.orphans[0].parent, 0u);
  EXPECT_DOUBLE_EQ(found.orphans[0].outlived_seconds, 20);
}

}  // namespace
}  // namespace ollamatrace
