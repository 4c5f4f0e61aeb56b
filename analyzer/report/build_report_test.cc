#include "analyzer/report/build_report.h"

#include <algorithm>
#include <string>
#include <vector>

#include "analyzer/report/example_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Report Build(const ReportQuery& query = {}, const ReplayOptions& replay = {}) {
  const SessionHistory session = ExampleSession(replay);
  ExampleSymbols symbols;
  NameExample(symbols);
  return BuildReport(session, query, symbols);
}

std::vector<std::string> Functions(const Report& report, const ReportGroup& group) {
  std::vector<std::string> names;
  for (const uint32_t frame : group.frames) names.push_back(report.frames[frame].function);
  return names;
}

const ReportGroup* FindGroup(const Report& report, const std::string& function) {
  for (const ReportGroup& group : report.groups) {
    const auto names = Functions(report, group);
    if (std::find(names.begin(), names.end(), function) != names.end()) return &group;
  }
  return nullptr;
}

std::vector<uint64_t> LiveBytes(const Report& report) {
  std::vector<uint64_t> bytes;
  for (const ReportGroup& group : report.groups) bytes.push_back(group.live_bytes);
  return bytes;
}

TEST(BuildReport, ProcessesByStart) {
  const Report report = Build();
  ASSERT_THAT(report.processes, SizeIs(4));
  const ReportProcess& server = report.processes[0];
  EXPECT_EQ(server.pid, 100u);
  EXPECT_EQ(server.name, "server");
  EXPECT_EQ(server.end, "exited");
  EXPECT_EQ(server.parent, std::nullopt);
  EXPECT_EQ(server.host.live_bytes, 50'000u + 300 + 40 + 512 + 120'000 + 4 * 4096);
  EXPECT_EQ(server.host.allocations, 4u + 240 + 500);
  EXPECT_EQ(server.host.frees, 116u + 500);
  EXPECT_EQ(server.memory.mapped, 65536u);
  EXPECT_EQ(server.memory.rss_anon, 3u << 20);
  EXPECT_EQ(server.memory.open_files, std::nullopt);
  EXPECT_DOUBLE_EQ(server.start, 0);
  EXPECT_DOUBLE_EQ(server.last, 90);
  EXPECT_EQ(server.requests, 120u);
  EXPECT_EQ(report.processes[1].end, "killed");
  EXPECT_EQ(report.processes[1].parent, 0u);
  ASSERT_THAT(report.processes[1].gpu.ledgers, SizeIs(1));
  EXPECT_EQ(report.processes[1].gpu.ledgers[0].domain, "device");
  EXPECT_EQ(report.processes[2].end, "exec");
  EXPECT_EQ(report.processes[3].end, "exited");
  EXPECT_EQ(report.processes[3].parent, 0u);
}

TEST(BuildReport, LeaksFirstThenByLiveBytesAndWhatIsNoMemoryLast) {
  const Report report = Build();
  EXPECT_THAT(LiveBytes(report), ElementsAre(120'000, 3u << 20, 65536, 50'000, 20'000, 16'384, 512,
                                             300, 64, 40, 64u << 20, 8u << 20));
  for (size_t i = 0; i < report.groups.size(); ++i) EXPECT_EQ(report.groups[i].rank, i + 1);
  EXPECT_EQ(report.groups[10].mapping, "reserved");
  EXPECT_EQ(report.groups[11].mapping, "file");
  EXPECT_EQ(report.groups[11].share, 0);
  double share = 0;
  for (const ReportGroup& group : report.groups) share += group.share;
  EXPECT_NEAR(share, 1, 1e-9);
  EXPECT_EQ(report.groups_in_all, 12u);
}

TEST(BuildReport, TheLeak) {
  const Report report = Build();
  const ReportGroup& leak = *FindGroup(report, "app::Leak(char const*)");
  EXPECT_THAT(Functions(report, leak),
              ElementsAre("app::(anonymous namespace)::Copy(char const*)", "app::Leak(char const*)",
                          "app::Server::Handle(app::Request const&)", "main"));
  EXPECT_TRUE(report.frames[leak.frames[0]].inlined);
  EXPECT_EQ(leak.live_blocks, 120u);
  EXPECT_EQ(leak.allocations, 620u);
  EXPECT_EQ(leak.frees, 500u);
  EXPECT_EQ(leak.verdict, "leak");
  EXPECT_GT(leak.confidence, 0.9);
  EXPECT_EQ(leak.blamed_frame, 0u);
  EXPECT_TRUE(leak.growing);
  EXPECT_DOUBLE_EQ(leak.bytes_per_request->value, 1000);
  // 1000 bytes each 0.7 s.
  EXPECT_NEAR(leak.bytes_per_hour->value, 1000 / 0.7 * 3600, 1000 / 0.7 * 3600 * 0.1);
  EXPECT_DOUBLE_EQ(leak.first_seen, 4.9);
  EXPECT_THAT(leak.evidence[0], HasSubstr("120 blocks live, 1000 B each"));
}

TEST(BuildReport, ABoundedCacheDoesNotGrow) {
  const Report report = Build();
  const ReportGroup& cache = *FindGroup(report, "app::Cache::Insert(std::string)");
  EXPECT_EQ(cache.live_blocks, 4u);
  EXPECT_EQ(cache.growth_bytes, 0);
  EXPECT_EQ(cache.verdict, "cache");
  EXPECT_FALSE(cache.growing);
  EXPECT_EQ(cache.blamed_frame, 1u);  // after operator new
  EXPECT_EQ(cache.bytes_per_request->value, 0);
}

TEST(BuildReport, TheHeadlineSaysWhatKeepsTheMemory) {
  EXPECT_THAT(Build().headline,
              AllOf(HasSubstr("leak: server [100]: app::(anonymous namespace)::Copy(char const*) "
                              "(leak.cc:7) keeps 117.2 KiB of 3.3 MiB"),
                    HasSubstr("1000 B per request")));
  EXPECT_THAT(Build({.functions = {"app::Cache"}}).headline,
              AllOf(HasSubstr("no leak found; the most, 16.0 KiB of 16.0 KiB, is kept by server"),
                    HasSubstr("(cache)")));
}

TEST(BuildReport, KilledMeansLiveAtTheKill) {
  const Report report = Build({.processes = {"runner"}});
  ASSERT_THAT(report.groups, SizeIs(2));
  EXPECT_EQ(report.groups[0].verdict, "live-at-kill");
  EXPECT_EQ(report.groups[0].domain, "device");
}

TEST(BuildReport, NamelessFramesKeepModuleOffsetAndBuildId) {
  const Report report = Build();
  const auto group = std::find_if(report.groups.begin(), report.groups.end(),
                                  [](const ReportGroup& one) { return one.live_bytes == 300; });
  ASSERT_NE(group, report.groups.end());
  const ReportFrame& frame = report.frames[group->frames[0]];
  EXPECT_EQ(frame.function, "");
  EXPECT_EQ(frame.module, "/usr/lib/libruntime.so.1");
  EXPECT_EQ(frame.offset, 0x5a10u);
  EXPECT_EQ(frame.build_id, "abcdef0102030405");
  const auto nowhere = std::find_if(report.groups.begin(), report.groups.end(),
                                    [](const ReportGroup& one) { return one.live_bytes == 40; });
  ASSERT_NE(nowhere, report.groups.end());
  EXPECT_EQ(report.frames[nowhere->frames[0]].module, "");
  EXPECT_EQ(report.frames[nowhere->frames[0]].offset, 0xdeadb000u);
}

TEST(BuildReport, Filters) {
  EXPECT_THAT(LiveBytes(Build({.processes = {"200"}})), ElementsAre(3u << 20, 20'000));
  EXPECT_THAT(LiveBytes(Build({.processes = {"runner", "sh"}})), ElementsAre(3u << 20, 20'000, 64));
  EXPECT_THAT(LiveBytes(Build({.processes = {"nobody"}})), IsEmpty());
  EXPECT_THAT(LiveBytes(Build({.processes = {"100"}, .modules = {"libruntime"}})),
              ElementsAre(16'384, 300));
  EXPECT_THAT(LiveBytes(Build({.functions = {"app::Leak("}})), ElementsAre(120'000));
  EXPECT_THAT(LiveBytes(Build({.functions = {"app::Leak(", "Descend"}})),
              ElementsAre(120'000, 512));
  EXPECT_THAT(LiveBytes(Build({.domains = {"device"}})), ElementsAre(3u << 20));
  EXPECT_THAT(LiveBytes(Build({.domains = {"heap"}, .min_bytes = 50'000})),
              ElementsAre(120'000, 50'000));
  const Report top = Build({.top = 2});
  EXPECT_THAT(LiveBytes(top), ElementsAre(120'000, 3u << 20));
  EXPECT_EQ(top.groups_in_all, 12u);
  EXPECT_NEAR(top.groups[1].share,
              static_cast<double>(3 << 20) / static_cast<double>(top.live_bytes_in_all), 1e-9);
}

TEST(BuildReport, GroupByFunctionIsTheBlamedOne) {
  const Report report = Build({.group_by = GroupBy::kFunction, .processes = {"100"}});
  const ReportGroup& cache = *FindGroup(report, "app::Cache::Insert(std::string)");
  EXPECT_THAT(cache.frames, SizeIs(1));
  EXPECT_EQ(report.frames[cache.frames[0]].line, 0u);
  // The table and the reservation are made by one function, and are of two kinds.
  EXPECT_EQ(std::count_if(report.groups.begin(), report.groups.end(),
                          [&](const ReportGroup& group) {
                            return Functions(report, group) ==
                                   std::vector<std::string>{"app::MakeTable()"};
                          }),
            2);
}

TEST(BuildReport, GroupByModule) {
  const Report report =
      Build({.group_by = GroupBy::kModule, .processes = {"100"}, .domains = {"heap"}});
  ASSERT_THAT(report.groups, SizeIs(3));
  EXPECT_EQ(report.frames[report.groups[0].frames[0]].module, "/opt/app/server");
  EXPECT_EQ(report.groups[0].live_bytes, 120'000u + 50'000 + 512 + 16'384);
}

TEST(BuildReport, GroupByThread) {
  ReplayOptions replay;
  replay.by_thread = true;
  const Report report =
      Build({.group_by = GroupBy::kThread, .processes = {"100"}, .domains = {"heap"}}, replay);
  ASSERT_THAT(report.groups, SizeIs(2));
  EXPECT_EQ(report.groups[0].thread, "main");
  EXPECT_EQ(report.groups[0].live_bytes, 60'000u + 50'000 + 300 + 40 + 512);
  EXPECT_EQ(report.groups[1].thread, "worker");
  EXPECT_EQ(report.groups[1].live_bytes, 60'000u + 16'384);
  EXPECT_THAT(report.groups[1].frames, IsEmpty());
}

TEST(BuildReport, MergedProcesses) {
  SessionHistory session = ExampleSession();
  SessionHistory again = ExampleSession();
  again.processes[0].pid = 101;
  session.processes.push_back(again.processes[0]);
  ExampleSymbols symbols;
  NameExample(symbols);
  const Report report =
      BuildReport(session, {.merge_processes = true, .functions = {"app::Leak("}}, symbols);
  ASSERT_THAT(report.groups, SizeIs(1));
  EXPECT_EQ(report.groups[0].live_bytes, 240'000u);
  EXPECT_THAT(report.groups[0].processes, SizeIs(2));
  EXPECT_DOUBLE_EQ(report.groups[0].bytes_per_request->value, 1000);
}

TEST(BuildReport, StacksThatLookTheSameAreOneGroup) {
  SessionHistory session;
  ProcessHistory process;
  process.has_header = true;
  process.modules[1] = {"/bin/app", "", 0};
  process.nodes.Set(StackId{1}, {StackId{}, ModuleId{1}, 0x100, false});
  process.nodes.Set(StackId{2}, {StackId{}, ModuleId{1}, 0x108, false});
  process.nodes.Set(StackId{3}, {StackId{}, ModuleId{1}, 0x200, false});
  process.nodes.Set(StackId{4}, {StackId{}, ModuleId{1}, 0x208, false});
  for (uint32_t stack = 1; stack <= 4; ++stack) {
    process.stacks[StackKey{StackId{stack}}] = {
        .live_bytes = 10, .live_blocks = 1, .allocations = 1};
  }
  session.processes.push_back(process);
  ExampleSymbols symbols;
  symbols.Add("/bin/app", 0x100, {{"f", "f.cc", 5, false}});
  symbols.Add("/bin/app", 0x108, {{"f", "f.cc", 5, false}});
  // Without a line the two calls stay apart: they may be anywhere in the function.
  symbols.Add("/bin/app", 0x200, {{"g", "", 0, false}});
  symbols.Add("/bin/app", 0x208, {{"g", "", 0, false}});
  const Report report = BuildReport(session, {}, symbols);
  EXPECT_THAT(LiveBytes(report), ElementsAre(20, 10, 10));
}

TEST(BuildReport, StacksThatRunInCirclesEnd) {
  SessionHistory session;
  ProcessHistory process;
  process.nodes.Set(StackId{1}, {StackId{2}, ModuleId{}, 0x1, false});
  process.nodes.Set(StackId{2}, {StackId{1}, ModuleId{77}, 0x2, false});
  process.stacks[StackKey{StackId{1}}] = {.live_bytes = 10, .live_blocks = 1};
  process.stacks[StackKey{StackId{99}}] = {.live_bytes = 5, .live_blocks = 1};
  session.processes.push_back(process);
  ExampleSymbols symbols;
  const Report report = BuildReport(session, {}, symbols);
  ASSERT_THAT(report.groups, SizeIs(2));
  EXPECT_THAT(report.groups[0].frames, SizeIs(kMaxStackDepth));
  EXPECT_THAT(report.groups[1].frames, IsEmpty());
}

TEST(BuildReport, LeaksAreWhatGrowsThenWhatWasNeverFreed) {
  const Report report = Build({.order = GroupOrder::kGrowth});
  EXPECT_EQ(report.title, "leaks");
  ASSERT_FALSE(report.groups.empty());
  EXPECT_THAT(Functions(report, report.groups[0])[1], "app::Leak(char const*)");
  for (size_t i = 1; i < report.groups.size(); ++i) {
    EXPECT_FALSE(report.groups[i].growing);
    EXPECT_NE(report.groups[i].verdict, "live-at-kill") << "a killed process merely held it";
    EXPECT_FALSE(report.groups[i].leaks);
    EXPECT_NE(report.groups[i].mapping, "file");
    EXPECT_NE(report.groups[i].mapping, "reserved");
  }
  EXPECT_EQ(report.groups[1].live_bytes, 65536u);
}

TEST(BuildReport, AWindow) {
  ReplayOptions replay;
  replay.since_ns = kExampleStart + 2 * kExampleSecond;
  replay.until_ns = kExampleStart + 9 * kExampleSecond;
  const Report report = Build({.processes = {}, .domains = {"heap"}}, replay);
  EXPECT_EQ(report.since, 2);
  EXPECT_EQ(report.until, 9);
  ASSERT_THAT(report.processes, SizeIs(2));  // the helper began later
  const ReportGroup& leak = *FindGroup(report, "app::Leak(char const*)");
  EXPECT_EQ(leak.live_blocks, 6u);
  EXPECT_EQ(report.groups.size(), 3u);  // and the cache, and the runner's
}

TEST(BuildReport, Coverage) {
  SessionHistory session = ExampleSession();
  session.notes = {"server.100.1.log: could not map the journal"};
  session.processes[0].losses = {{LossKind::kUnfinished, 3}, {LossKind::kStackTableFull, 9}};
  session.processes[1].losses = {{LossKind::kUnfinished, 3}};
  session.processes[0].unmatched_frees = 2;
  ExampleSymbols symbols;
  NameExample(symbols);
  const Report report = BuildReport(session, {}, symbols);
  const ReportCoverage& coverage = report.coverage;
  EXPECT_FALSE(coverage.complete);
  EXPECT_EQ(report.processes[0].lost_events, 3u);
  EXPECT_EQ(coverage.lost_events, 6u);
  EXPECT_THAT(coverage.losses, SizeIs(3));
  EXPECT_EQ(coverage.damaged_chunks, 1u);
  EXPECT_EQ(coverage.dropped_bytes, 77u);
  EXPECT_THAT(coverage.notes,
              ElementsAre("server.100.1.log: could not map the journal",
                          "server [100] and 1 more: 3 events were lost (unfinished)",
                          "server [100]: 9 stacks were cut short: the table of stacks is full",
                          "server [100]: 2 frees of blocks that the trace does not know",
                          "runner [200]: OLLAMATRACE_MODE=banana: not known, survivors is used",
                          "true [300]: 1 chunk is damaged (bad checksum) and was skipped"));
  ASSERT_THAT(coverage.modules, SizeIs(1));
  EXPECT_EQ(coverage.modules[0].state, "build-id-differs");
  EXPECT_EQ(coverage.modules[0].symbols, "none");
}

TEST(BuildReport, NoRatesWithoutMarksOrTime) {
  const auto build = [](double end, size_t requests) {
    ReplayOptions options;
    for (size_t i = 0; i < requests; ++i) options.request_times.push_back((5 + i) * kExampleSecond);
    Replay replay(options);
    for (uint64_t i = 0; i < 10; ++i) {
      replay.OnAlloc({i * 5 * kExampleSecond, ThreadId{1}, Domain::kHeap, AllocFunction::kMalloc,
                      StackId{1}, 0x1000 + i, 100});
    }
    replay.OnEnd({static_cast<uint64_t>(end * 1e9), EndKind::kExited});
    SessionHistory session;
    session.processes.push_back(replay.Finish({}));
    ExampleSymbols symbols;
    return BuildReport(session, {}, symbols);
  };
  EXPECT_FALSE(build(59, 0).groups[0].bytes_per_request);
  EXPECT_FALSE(build(59, 0).groups[0].bytes_per_hour);
  EXPECT_FALSE(build(61, 1).groups[0].bytes_per_request);
  EXPECT_TRUE(build(61, 30).groups[0].bytes_per_request);
  EXPECT_TRUE(build(61, 0).groups[0].bytes_per_hour);
}

TEST(BuildReport, NothingAtAll) {
  ExampleSymbols symbols;
  const Report report = BuildReport({}, {}, symbols);
  EXPECT_THAT(report.processes, IsEmpty());
  EXPECT_THAT(report.groups, IsEmpty());
  EXPECT_TRUE(report.coverage.complete);
}

}  // namespace
}  // namespace ollamatrace
