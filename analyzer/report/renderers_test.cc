// The renderers against golden files. After a change that is meant, write them anew:
//
//   OLLAMATRACE_UPDATE_GOLDEN=1 build/release/bin/renderers_test
#include "analyzer/report/renderers.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "analyzer/report/build_report.h"
#include "analyzer/report/example_session.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

Report Build(const ReportQuery& query = {}, const ReplayOptions& replay = {}) {
  const SessionHistory session = ExampleSession(replay);
  ExampleSymbols symbols;
  NameExample(symbols);
  return BuildReport(session, query, symbols);
}

template <typename Render>
std::string Rendered(const Render& render) {
  std::string text;
  render([&](absl::string_view piece) { absl::StrAppend(&text, piece); });
  return text;
}

std::string Text(const Report& report, const TextOptions& options = {}) {
  return Rendered([&](const OutputSink& sink) { RenderText(report, options, sink); });
}

std::string Leaks(const Report& report) {
  return Rendered([&](const OutputSink& sink) { RenderLeaks(report, {}, sink); });
}

std::string JsonText(const Report& report) {
  return Rendered([&](const OutputSink& sink) { RenderJson(report, sink); });
}

void ExpectGolden(const std::string& name, const std::string& text) {
  const std::string path = absl::StrCat(OLLAMATRACE_GOLDEN, "/", name);
  if (std::getenv("OLLAMATRACE_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path, std::ios::binary) << text;
    return;
  }
  std::ifstream in(path, std::ios::binary);
  ASSERT_TRUE(in) << path;
  const std::string golden{std::istreambuf_iterator<char>(in), {}};
  EXPECT_EQ(text, golden) << "differs from " << path
                          << "; OLLAMATRACE_UPDATE_GOLDEN=1 writes it anew";
}

TEST(Golden, Text) { ExpectGolden("report.txt", Text(Build())); }

Report BuildTimeline(uint64_t points) {
  SessionHistory session = ExampleSession();
  const auto mark = [&](uint64_t second, const char* name) {
    session.marks.push_back(
        {kExampleStart + second * kExampleSecond, std::string(kPhaseMark), name, 0});
  };
  mark(2, "load");
  mark(40, "idle");
  mark(60, "unload");
  mark(70, "end");
  ExampleSymbols symbols;
  NameExample(symbols);
  return BuildReport(session, {.top = 3, .timeline_points = points}, symbols);
}

TEST(Golden, Timeline) {
  ExpectGolden("timeline.txt", Rendered([&](const OutputSink& sink) {
                 RenderTimeline(BuildTimeline(64), {}, sink);
               }));
}
TEST(Golden, TimelineJson) { ExpectGolden("timeline.json", JsonText(BuildTimeline(8))); }

TEST(Golden, TextOfAWindow) {
  ReplayOptions replay;
  replay.since_ns = kExampleStart + 20 * kExampleSecond;
  replay.until_ns = kExampleStart + 60 * kExampleSecond;
  ExpectGolden("window.txt", Text(Build({.top = 1}, replay)));
}
TEST(Golden, TextByModule) {
  ExpectGolden("by_module.txt", Text(Build({.group_by = GroupBy::kModule})));
}
TEST(Golden, Leaks) { ExpectGolden("leaks.txt", Leaks(Build({.order = GroupOrder::kGrowth}))); }
TEST(Golden, Json) { ExpectGolden("report.json", JsonText(Build())); }

TEST(RenderText, StaysWithin120Columns) {
  for (const std::string& text : {Text(Build()), Text(Build({.group_by = GroupBy::kFunction})),
                                  Leaks(Build({.order = GroupOrder::kGrowth}))}) {
    for (const std::string& line : std::vector<std::string>(absl::StrSplit(text, '\n'))) {
      if (line.rfind("  - ", 0) == 0) continue;  // notes name files
      EXPECT_LE(line.size(), 120u) << line;
    }
  }
}

TEST(RenderText, AllFramesWhenAsked) {
  const Report report = Build({.functions = {"Descend"}});
  EXPECT_THAT(Text(report), HasSubstr("... 11 frames\n"));
  TextOptions all;
  all.frames = 0;
  const std::string text = Text(report, all);
  EXPECT_THAT(text, Not(HasSubstr("...")));
  EXPECT_THAT(text, HasSubstr("deep.cc:119"));
}

TEST(RenderText, ManyProcessesAreCut) {
  SessionHistory session = ExampleSession();
  const ProcessHistory helper = session.processes[2];
  for (uint32_t i = 0; i < 50; ++i) {
    session.processes.push_back(helper);
    session.processes.back().pid = 1000 + i;
  }
  ExampleSymbols symbols;
  NameExample(symbols);
  const Report report = BuildReport(session, {}, symbols);
  EXPECT_THAT(Text(report), HasSubstr("and 39 more, with 2.4 KiB live in all: 38 sh, 1 true\n"));
  TextOptions all;
  all.processes = 0;
  EXPECT_THAT(Text(report, all), HasSubstr("1049"));
}

TEST(RenderText, NothingIsLive) {
  EXPECT_THAT(Text(Build({.functions = {"nothing"}})),
              HasSubstr("Nothing is live that passes the filters."));
  EXPECT_THAT(Text(Build({.processes = {"nothing"}})), HasSubstr("No process passes the filters."));
  Report nothing;
  EXPECT_THAT(Text(nothing), HasSubstr("No process.\n"));
  nothing.processes.emplace_back();
  EXPECT_THAT(Text(nothing), HasSubstr("Nothing is live.\n"));
}

TEST(RenderText, ControlCharactersDoNotReachTheTerminal) {
  Report report = Build({.top = 1});
  report.processes[0].name = "evil\x1b[2J";
  report.processes[0].argv = {"x", "a\nb"};
  report.frames[report.groups[0].frames[0]].function = "f\x1b]0;title\x07";
  report.coverage.notes = {"line\rother"};
  const std::string text = Text(report);
  EXPECT_EQ(std::count_if(text.begin(), text.end(),
                          [](char c) { return static_cast<unsigned char>(c) < 0x20 && c != '\n'; }),
            0);
  EXPECT_THAT(text, HasSubstr("a?b"));
}

TEST(RenderJson, IsTheSchema) {
  const nlohmann::json json = nlohmann::json::parse(JsonText(Build()));
  EXPECT_EQ(json["schema"], "ollama-leakview/report/1");
  ASSERT_EQ(json["processes"].size(), 4u);
  for (const char* key :
       {"pid", "ppid", "exe", "argv", "start", "end", "lost_events", "host", "gpu", "memory"}) {
    EXPECT_TRUE(json["processes"][0].contains(key)) << key;
  }
  ASSERT_EQ(json["groups"].size(), 12u);
  for (const char* key :
       {"rank", "pid", "domain", "verdict", "live_bytes", "live_blocks", "allocations", "frees",
        "peak_bytes", "bytes_per_request", "bytes_per_hour", "first_seen", "last_seen", "evidence",
        "advice", "frames"}) {
    EXPECT_TRUE(json["groups"][0].contains(key)) << key;
  }
  for (const char* key : {"function", "file", "line", "module", "offset", "inlined"}) {
    EXPECT_TRUE(json["groups"][0]["frames"][0].contains(key)) << key;
  }
  EXPECT_TRUE(json.contains("fragmentation"));
  EXPECT_TRUE(json["coverage"].is_object());
  EXPECT_TRUE(json["processes"][0]["memory"]["unknown"].is_null());
}

TEST(RenderJson, AnyBytesGiveJson) {
  Report report = Build({.top = 1});
  report.processes[0].exe = "/bin/\xff\xfe\"\\\n";
  report.processes[0].argv = {std::string("\0\x80", 2)};
  report.frames[report.groups[0].frames[0]].function = "f\xc3";
  report.groups[0].bytes_per_hour = ReportRate{1e308, 1e308, 1e308};
  const nlohmann::json json =
      nlohmann::json::parse(JsonText(report), nullptr, /*allow_exceptions=*/false);
  EXPECT_FALSE(json.is_discarded());
}

TEST(RenderJson, AnEmptyReport) {
  const nlohmann::json json = nlohmann::json::parse(JsonText(Report{}));
  EXPECT_TRUE(json["processes"].empty());
  EXPECT_TRUE(json["groups"].is_array());
  EXPECT_TRUE(json["session"]["start_time"].is_null());
}

}  // namespace
}  // namespace ollamatrace
