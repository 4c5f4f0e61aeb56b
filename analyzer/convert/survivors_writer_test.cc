// What the converted trace says is what the trace said.
#include "analyzer/convert/survivors_writer.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "analyzer/replay/replay.h"
#include "formats/test_trace.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kStart = 1'000'000;

struct Program {
  uint32_t seed = 1;
  int events = 20'000;
  bool lossy = false;  // some records are missing
  bool ends = true;
  bool samples = true;
  Mode mode = Mode::kFull;
};

std::string TraceOf(const Program& program) {
  std::mt19937_64 random(program.seed);
  const auto below = [&](uint64_t bound) { return random() % bound; };
  TraceBuilder trace;
  HeaderRecord header;
  header.pid = 7;
  header.mode = program.mode;
  header.start_ns = kStart;
  header.exe = TextOf("/bin/server");
  trace.Add(header);
  trace.Add(ModuleRecord{ModuleId{1}, kStart, 0, 0x100000, 0x200000, {}, TextOf("/bin/server")});
  trace.Add(ThreadRecord{ThreadId{1}, kStart, 11, TextOf("main")});
  for (uint32_t id = 1; id <= 20; ++id) {
    trace.Add(NodeRecord{StackId{id}, StackId{id / 2}, ModuleId{1}, 0x100000 + id, 0});
  }
  if (program.mode == Mode::kSurvivors) {
    trace.Add(CountersRecord{StackId{4}, Domain::kHeap, 10, 1000, 5000, 900, kStart, kStart + 50});
    trace.Add(CountersRecord{StackId{5}, Domain::kMapping, 2, 8192, 50, 4096, kStart, kStart + 9});
  }
  std::vector<bool> live(500), mapped(20);
  uint64_t time = kStart;
  for (int i = 0; i < program.events; ++i) {
    time += below(1000);
    const ThreadId thread{static_cast<uint32_t>(1 + below(3))};
    const StackId stack{static_cast<uint32_t>(1 + below(20))};
    const size_t place = below(live.size());
    // Now and then the heap empties, so that its peak is not at its end.
    const bool freeing = i % 5000 > 4000;
    if (freeing ? live[place] : true) {
      const uint64_t address = 0x1000 + 64 * place;
      if (live[place]) {
        trace.Add(FreeRecord{time, thread, Domain::kHeap, address});
      } else {
        trace.Add(AllocRecord{time, thread, Domain::kHeap, AllocFunction::kMalloc, stack, address,
                              below(500)});
      }
      live[place] = !live[place];
      if (program.lossy && below(100) == 0) live[place] = !live[place];
    }
    if (below(100) == 0) {
      const size_t page = below(mapped.size());
      const uint64_t address = 0x40000000 + 65536 * page;
      if (mapped[page]) {
        trace.Add(UnmapRecord{time, thread, address, 65536});
      } else {
        trace.Add(MapRecord{time, thread, AllocFunction::kMmap, stack, address, 65536, 3, 0});
      }
      mapped[page] = !mapped[page];
    }
    if (below(200) == 0) {
      trace.Add(AllocRecord{time, thread, Domain::kDevice, AllocFunction::kGpu, stack,
                            0x100 + 16 * below(10), 4096});
    }
    if (program.samples && below(700) == 0) {
      SampleRecord sample;
      sample.time_ns = time;
      sample.rss_anon = below(1 << 20);
      if (program.mode == Mode::kSurvivors) {
        sample.pooled_bytes = below(1000);
        sample.pooled_peak_bytes = sample.pooled_bytes + below(20'000);
      }
      trace.Add(sample);
    }
    if (i % 4000 == 0) trace.CloseChunk();
  }
  trace.Add(MessageRecord{time, TextOf("a message")});
  trace.Add(LossRecord{time, LossKind::kOther, 3});
  if (program.ends) trace.Add(EndRecord{time + 5, EndKind::kExited});
  trace.CloseChunk();
  return trace.bytes();
}

std::string Converted(const std::string& bytes) {
  std::string out;
  SurvivorsWriter writer([&](absl::string_view chunk) { out.append(chunk.data(), chunk.size()); });
  const absl::StatusOr<ReadSummary> summary = ReadTraceBytes(bytes, writer);
  EXPECT_TRUE(summary.ok()) << summary.status();
  EXPECT_TRUE(writer.accepts());
  writer.Finish(*summary);
  return out;
}

ProcessHistory Replayed(const std::string& bytes) {
  Replay replay({});
  const absl::StatusOr<ReadSummary> summary = ReadTraceBytes(bytes, replay);
  EXPECT_TRUE(summary.ok()) << summary.status();
  EXPECT_EQ(summary->damaged_chunks, 0u);
  return replay.Finish(*summary);
}

using StackFigures =
    std::tuple<uint32_t, uint8_t, uint8_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t,
               uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t>;

std::vector<StackFigures> Stacks(const ProcessHistory& history) {
  std::vector<StackFigures> figures;
  for (const auto& [key, stats] : history.stacks) {
    figures.emplace_back(static_cast<uint32_t>(key.stack), static_cast<uint8_t>(key.domain),
                         static_cast<uint8_t>(key.mapping), stats.live_bytes, stats.live_blocks,
                         stats.allocations, stats.frees, stats.bytes, stats.peak_bytes,
                         stats.first_ns, stats.last_ns, stats.smallest, stats.largest,
                         stats.oldest_ns, stats.newest_ns);
  }
  std::sort(figures.begin(), figures.end());
  return figures;
}

void ExpectSame(const ProcessHistory& before, const ProcessHistory& after, bool exact_peak = true) {
  if (exact_peak) {
    EXPECT_EQ(Stacks(before), Stacks(after));
  }
  ASSERT_EQ(before.totals.size(), after.totals.size());
  for (const auto& [key, total] : before.totals) {
    const DomainTotals& other = after.totals.at(key);
    EXPECT_EQ(
        std::tie(total.live_bytes, total.live_blocks, total.allocations, total.frees, total.bytes),
        std::tie(other.live_bytes, other.live_blocks, other.allocations, other.frees, other.bytes));
    if (exact_peak) {
      EXPECT_EQ(total.peak_bytes, other.peak_bytes);
    }
  }
  EXPECT_EQ(before.unmatched_frees, after.unmatched_frees);
  EXPECT_EQ(before.allocs_over_live, after.allocs_over_live);
  EXPECT_EQ(before.end, after.end);
  EXPECT_EQ(before.end_ns, after.end_ns);
  EXPECT_EQ(before.start_ns, after.start_ns);
  EXPECT_EQ(before.pid, after.pid);
  EXPECT_EQ(before.exe, after.exe);
  EXPECT_EQ(before.nodes.size(), after.nodes.size());
  EXPECT_EQ(before.modules.size(), after.modules.size());
  EXPECT_EQ(before.thread_names, after.thread_names);
  EXPECT_EQ(before.messages, after.messages);
  EXPECT_EQ(before.losses, after.losses);
  for (size_t i = 0; i < before.timeline.size(); ++i) {
    ASSERT_LT(i, after.timeline.size());
    EXPECT_EQ(before.timeline[i].heap_live_bytes, after.timeline[i].heap_live_bytes) << i;
    EXPECT_EQ(before.timeline[i].sample.rss_anon, after.timeline[i].sample.rss_anon) << i;
  }
}

TEST(SurvivorsWriter, KeepsEveryFigure) {
  for (uint32_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE(seed);
    const std::string full = TraceOf({.seed = seed});
    const ProcessHistory before = Replayed(full), after = Replayed(Converted(full));
    EXPECT_EQ(before.mode, Mode::kFull);
    EXPECT_EQ(after.mode, Mode::kSurvivors);
    EXPECT_GT(before.Total(Domain::kHeap).peak_bytes, before.Total(Domain::kHeap).live_bytes);
    ExpectSame(before, after);
  }
}

TEST(SurvivorsWriter, KeepsThePeakWithoutSamples) {
  const std::string full = TraceOf({.samples = false});
  ExpectSame(Replayed(full), Replayed(Converted(full)));
}

TEST(SurvivorsWriter, KeepsTheEndOfOneThatWasKilled) {
  for (const bool samples : {false, true}) {
    const std::string full = TraceOf({.seed = 3, .ends = false, .samples = samples});
    const ProcessHistory before = Replayed(full);
    EXPECT_EQ(before.end, ProcessEnd::kKilled);
    ExpectSame(before, Replayed(Converted(full)));
  }
}

TEST(SurvivorsWriter, KeepsWhatWasLost) {
  for (uint32_t seed = 1; seed <= 5; ++seed) {
    const std::string full = TraceOf({.seed = seed, .lossy = true});
    const ProcessHistory before = Replayed(full);
    EXPECT_GT(before.unmatched_frees, 0u);
    EXPECT_GT(before.allocs_over_live, 0u);
    ExpectSame(before, Replayed(Converted(full)), /*exact_peak=*/false);
  }
}

TEST(SurvivorsWriter, AddsToWhatTheLibraryFolded) {
  const std::string survivors = TraceOf({.seed = 5, .mode = Mode::kSurvivors});
  ExpectSame(Replayed(survivors), Replayed(Converted(survivors)));
}

TEST(SurvivorsWriter, IsSmallerAndStaysAsItIs) {
  const std::string full = TraceOf({.events = 60'000});
  const std::string once = Converted(full);
  EXPECT_LT(once.size() * 4, full.size());
  EXPECT_EQ(Converted(full), once);
  ExpectSame(Replayed(once), Replayed(Converted(once)));
}

TEST(SurvivorsWriter, RefusesSamples) {
  SurvivorsWriter writer([](absl::string_view) {});
  ASSERT_TRUE(ReadTraceBytes(TraceOf({.events = 10, .mode = Mode::kSample}), writer).ok());
  EXPECT_FALSE(writer.accepts());
}

TEST(WriteSurvivorsTrace, FilesAndErrors) {
  const std::string from = testing::TempDir() + "/server.7.1.zst",
                    to = testing::TempDir() + "/out.zst";
  std::remove(to.c_str());
  const std::string full = TraceOf({});
  std::ofstream(from, std::ios::binary) << full;
  ASSERT_TRUE(WriteSurvivorsTrace(from, to).ok());
  std::ifstream in(to, std::ios::binary);
  EXPECT_EQ((std::string{std::istreambuf_iterator<char>(in), {}}), Converted(full));
  // It is there already: nobody's file is overwritten.
  EXPECT_THAT(std::string(WriteSurvivorsTrace(from, to).message()), HasSubstr("cannot write"));
  EXPECT_TRUE(std::ifstream(to).good());
  EXPECT_EQ(WriteSurvivorsTrace(testing::TempDir() + "/none.zst", to + "2").code(),
            absl::StatusCode::kNotFound);
  EXPECT_FALSE(std::ifstream(to + "2").good());
  std::ofstream(from, std::ios::binary) << TraceOf({.events = 10, .mode = Mode::kSample});
  EXPECT_THAT(std::string(WriteSurvivorsTrace(from, to + "2").message()), HasSubstr("mode sample"));
  EXPECT_FALSE(std::ifstream(to + "2").good());
}

}  // namespace
}  // namespace ollamatrace
