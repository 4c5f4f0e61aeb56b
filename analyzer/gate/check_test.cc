#include "analyzer/gate/check.h"

#include <algorithm>
#include <string>

#include "analyzer/gate/renderers.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::SizeIs;

constexpr double kMiB = 1 << 20;
constexpr size_t kPoints = 200;

// 200 s, one request a second: 20 s of warm-up, 100 of steady load, 40 of idling, 40 unloaded.
class Sessions {
 public:
  Sessions() {
    report_.requests = 120;
    report_.duration = kPoints;
    report_.processes.emplace_back();
    report_.processes[0].name = "server";
    report_.timeline.emplace();
    for (size_t i = 0; i < kPoints; ++i) {
      report_.timeline->times.push_back(static_cast<double>(i + 1));
      report_.timeline->requests.push_back(std::min<uint64_t>(i + 1, 120));
    }
    report_.timeline->processes.emplace_back();
    report_.phases = {{.name = "warm-up", .kind = "warm-up", .begin = 0, .end = 20, .requests = 20},
                      {.name = "steady", .kind = "other", .begin = 20, .end = 120, .requests = 100},
                      {.name = "idle", .kind = "idle", .begin = 120, .end = 160},
                      {.name = "unload", .kind = "unload", .begin = 160, .end = 200}};
  }

  // A stack `function` whose live bytes are what `at` says of each second.
  template <typename At>
  ReportGroup& Add(const std::string& function, const std::string& verdict, const At& at) {
    ReportGroup group;
    group.rank = report_.groups.size() + 1;
    group.processes = {0};
    group.domain = "heap";
    group.verdict = verdict;
    group.confidence = 0.9;
    group.live_blocks = 1;
    for (size_t i = 0; i < kPoints; ++i) group.curve.emplace_back(at(report_.timeline->times[i]));
    group.live_bytes = static_cast<uint64_t>(*group.curve.back());
    group.frames = {static_cast<uint32_t>(report_.frames.size()),
                    static_cast<uint32_t>(report_.frames.size() + 1)};
    report_.frames.push_back({.function = function,
                              .file = "/src/app/leak.cc",
                              .line = 31,
                              .module = "/opt/app/server"});
    report_.frames.push_back({.function = "main", .module = "/opt/app/server"});
    report_.groups.push_back(std::move(group));
    return report_.groups.back();
  }

  // What all groups add up to.
  void AddTotals() {
    ReportProcessCurves::DomainCurve heap;
    heap.domain = "heap";
    heap.bytes.assign(kPoints, 0.0);
    for (const ReportGroup& group : report_.groups) {
      for (size_t i = 0; i < kPoints; ++i) *heap.bytes[i] += group.curve[i].value_or(0);
    }
    report_.timeline->processes[0].domains.push_back(std::move(heap));
  }

  Report report_;
};

double Served(double seconds) { return std::min(seconds, 120.0); }

const CheckedBudget& Find(const CheckResult& result, const std::string& id) {
  const auto it = std::find_if(result.budgets.begin(), result.budgets.end(),
                               [&](const CheckedBudget& one) { return one.id == id; });
  EXPECT_NE(it, result.budgets.end()) << id;
  return *it;
}

CheckResult CheckAlone(const Report& report, const Budgets& budgets = StandardBudgets(),
                       const std::vector<Suppression>& suppressions = {}) {
  return Check(report, budgets, suppressions, nullptr);
}

TEST(Check, AQuietServerKeepsItsBudgets) {
  Sessions session;
  session.Add("Model::Load", "one-time", [](double) { return 300 * kMiB; });
  session.AddTotals();
  const CheckResult result = CheckAlone(session.report_);
  EXPECT_FALSE(result.Broken());
  for (const CheckedBudget& budget : result.budgets) {
    EXPECT_NE(budget.outcome, Outcome::kBroken) << budget.id << ": " << budget.message;
  }
  EXPECT_EQ(Find(result, "growth-per-request").outcome, Outcome::kKept);
  EXPECT_EQ(*Find(result, "growth-per-request").value, 0);
  EXPECT_EQ(Find(result, "gpu-growth-per-hour").outcome, Outcome::kNotMeasured);
}

// Where what is known begins is no growth.
TEST(Check, HistoryThatWasDropped) {
  Sessions session;
  session.report_.processes[0].complete_from = 60;
  session.Add("Model::Load", "one-time", [](double at) { return at < 60 ? 0 : 300 * kMiB; });
  session.AddTotals();
  const CheckResult result = CheckAlone(session.report_);
  for (const CheckedBudget& budget : result.budgets) {
    EXPECT_NE(budget.outcome, Outcome::kBroken) << budget.id << ": " << budget.message;
  }
  EXPECT_EQ(Find(result, "growth-per-hour").outcome, Outcome::kKept);
  EXPECT_EQ(*Find(result, "growth-per-hour").value, 0);
}

TEST(Check, ALeakIsNamed) {
  Sessions session;
  session.Add("Leak", "leak", [](double at) { return 4096 * Served(at); });
  session.AddTotals();
  const CheckResult result = CheckAlone(session.report_);
  EXPECT_TRUE(result.Broken());
  const CheckedBudget& leaks = Find(result, "leak-confidence");
  EXPECT_EQ(leaks.outcome, Outcome::kBroken);
  ASSERT_THAT(leaks.culprits, SizeIs(1));
  EXPECT_THAT(leaks.culprits[0].message, HasSubstr("Leak (leak.cc:31)"));
  // Too small for the budget by request; by hour it is 14 MiB.
  EXPECT_EQ(Find(result, "growth-per-request").outcome, Outcome::kKept);
  EXPECT_NEAR(*Find(result, "growth-per-request").value, 4096, 1);
  EXPECT_EQ(Find(result, "growth-per-hour").outcome, Outcome::kBroken);
  EXPECT_NEAR(*Find(result, "growth-per-hour").value, 4096 * 3600, 1000);
  ASSERT_THAT(Find(result, "growth-per-hour").culprits, SizeIs(1));

  Budgets budgets = StandardBudgets();
  budgets[BudgetKind::kLeakConfidence] = 0.95;
  EXPECT_EQ(Find(CheckAlone(session.report_, budgets), "leak-confidence").outcome, Outcome::kKept);
  budgets[BudgetKind::kLeakConfidence] = 0.9;  // as sure as that is enough
  EXPECT_EQ(Find(CheckAlone(session.report_, budgets), "leak-confidence").outcome,
            Outcome::kBroken);
}

TEST(Check, GrowthPerRequestAndRetained) {
  Sessions session;
  session.Add("Grow", "growth-per-request", [](double at) { return 2 * kMiB * Served(at); });
  session.Add("Little", "live", [](double at) { return 16 * Served(at); });
  session.AddTotals();
  const CheckResult result = CheckAlone(session.report_);
  const CheckedBudget& growth = Find(result, "growth-per-request");
  EXPECT_EQ(growth.outcome, Outcome::kBroken);
  EXPECT_NEAR(*growth.value, 2 * kMiB, 100);
  ASSERT_THAT(growth.culprits, SizeIs(1));  // the little one is not worth naming
  EXPECT_EQ(growth.culprits[0].group, 0u);
  const CheckedBudget& retained = Find(result, "retained-after-load");
  EXPECT_EQ(retained.outcome, Outcome::kBroken);
  EXPECT_NEAR(*retained.value, 200 * kMiB, 10000);  // of 100 requests: the warm-up does not count
  EXPECT_EQ(Find(result, "leak-confidence").outcome, Outcome::kKept);
  ASSERT_TRUE(result.score.has_value());
  EXPECT_EQ(result.score->grade, "poor");
}

TEST(Check, ACacheThatFillsIsToldAndForgiven) {
  Sessions session;
  ReportGroup& cache =
      session.Add("PromptCache", "cache", [](double at) { return 5 * kMiB * Served(at); });
  cache.site = "prompt cache of llama-server";
  session.AddTotals();
  const CheckResult result = CheckAlone(session.report_);
  EXPECT_FALSE(result.Broken());
  EXPECT_THAT(Find(result, "growth-per-request").explanation,
              Contains(AllOf(HasSubstr("not counted: "), HasSubstr("PromptCache"),
                             HasSubstr("cache: prompt cache of llama-server"))));
}

TEST(Check, WhatComesAndGoesWithRequests) {
  Sessions session;
  session.Add("Buffer", "live", [](double at) {
    const bool busy = at > 20 && at <= 120 && static_cast<int>(at) % 2 == 0;
    return busy ? 80 * kMiB : kMiB;
  });
  session.AddTotals();
  const CheckResult result = CheckAlone(session.report_);
  EXPECT_EQ(Find(result, "memory-per-request").outcome, Outcome::kBroken);
  EXPECT_NEAR(*Find(result, "memory-per-request").value, 79 * kMiB, 1);
  EXPECT_EQ(Find(result, "growth-per-request").outcome, Outcome::kKept);
}

TEST(Check, GrowthThatIsNotSureDoesNotBreak) {
  Sessions session;
  // 1.1 MiB a request in so much noise that it may as well be 0.9.
  uint64_t state = 1;
  session.Add("Noise", "live", [&](double at) {
    state = state * 6364136223846793005u + 1442695040888963407u;
    const double noise = static_cast<double>(state >> 33) / 0x1p31;
    return (100 + 1.1 * Served(at) + 100 * noise) * kMiB;
  });
  session.AddTotals();
  const CheckedBudget growth = Find(CheckAlone(session.report_), "growth-per-request");
  EXPECT_GT(*growth.value, growth.limit);
  EXPECT_EQ(growth.outcome, Outcome::kKept);
  EXPECT_THAT(growth.explanation, Contains(HasSubstr("not sure enough to count")));
}

TEST(Check, Unloads) {
  Sessions session;
  session.Add("Rest", "retained-after-unload", [](double at) { return at > 20 ? 150 * kMiB : 0; });
  session.AddTotals();
  session.report_.cycles.push_back({.loaded = 0,
                                    .unload = 160,
                                    .settled = 200,
                                    .before_bytes = 0,
                                    .peak_bytes = 400 * kMiB,
                                    .loaded_bytes = 300 * kMiB,
                                    .after_bytes = 150 * kMiB,
                                    .survived_bytes = 150 * kMiB});
  CheckResult result = CheckAlone(session.report_);
  EXPECT_EQ(Find(result, "retained-after-unload").outcome, Outcome::kBroken);
  ASSERT_THAT(Find(result, "retained-after-unload").culprits, SizeIs(1));
  EXPECT_EQ(result.score->grade, "good");  // 37.5 %
  EXPECT_DOUBLE_EQ(result.score->share, 0.375);
  // The phase was too short to say that it takes longer than five minutes.
  EXPECT_EQ(Find(result, "recovery-time").outcome, Outcome::kNotMeasured);
  EXPECT_THAT(Find(result, "recovery-time").message,
              HasSubstr("not recovered when the unload phase ended after 40.0 s"));
  Budgets budgets = StandardBudgets();
  budgets[BudgetKind::kRecoveryTime] = 30;
  EXPECT_EQ(Find(CheckAlone(session.report_, budgets), "recovery-time").outcome, Outcome::kBroken);
  session.report_.cycles[0].recovery_seconds = 12;
  result = CheckAlone(session.report_, budgets);
  EXPECT_EQ(Find(result, "recovery-time").outcome, Outcome::kKept);
  EXPECT_EQ(Find(result, "recovery-time").value, 12);
}

TEST(Check, IdleGrowthGpuFilesPeakRssAndFragmentation) {
  Sessions session;
  session.Add("Timer", "leak", [](double at) { return 65536 * at; });
  ReportGroup& device =
      session.Add("cudaMalloc", "live", [](double at) { return kMiB * Served(at); });
  device.domain = "device";
  session.AddTotals();
  Report& report = session.report_;
  report.processes[0].gpu.ledgers.push_back({.domain = "device"});
  report.phases[2].idle_per_hour = 65536 * 3600;
  report.phases[2].idle_low = report.phases[2].idle_high = 65536 * 3600;
  report.timeline->processes[0].open_files.assign(kPoints, 5.0);
  report.timeline->processes[0].rss_anon.assign(kPoints, 64 * kMiB);
  for (size_t i = 150; i < kPoints; ++i) {
    report.timeline->processes[0].open_files[i] = 500;
    report.timeline->processes[0].rss_anon[i] = 256 * kMiB;
  }
  report.fragmentation.push_back(
      {.process = 0, .held = 100 << 20, .free_held = 60 << 20, .trimmable = 10 << 20});
  Budgets budgets = StandardBudgets();
  budgets[BudgetKind::kPeak] = 255 * kMiB;
  budgets[BudgetKind::kRssGrowth] = 100 * kMiB;
  budgets[BudgetKind::kFragmentation] = 0.4;
  const CheckResult result = CheckAlone(report, budgets);
  for (const char* id : {"idle-growth-per-hour", "gpu-growth-per-hour", "open-files-growth", "peak",
                         "rss-growth", "fragmentation"}) {
    EXPECT_EQ(Find(result, id).outcome, Outcome::kBroken) << id << Find(result, id).message;
  }
  EXPECT_EQ(*Find(result, "open-files-growth").value, 495);
  EXPECT_EQ(*Find(result, "peak").value, 256 * kMiB);
  EXPECT_EQ(*Find(result, "fragmentation").value, 0.5);
  EXPECT_EQ(Find(result, "gpu-growth-per-hour").culprits.at(0).group, 1u);
}

TEST(Check, GpuResidual) {
  Sessions session;
  session.AddTotals();
  Report& report = session.report_;
  EXPECT_EQ(Find(CheckAlone(report), "gpu-residual-per-hour").outcome, Outcome::kNotMeasured);
  ReportGpuDevice device;
  device.residual = {.first = 0, .last = 1 << 30, .seconds = 50, .per_hour = 1e9};
  device.residual->per_hour_low = 11 << 20;
  device.residual->stages = {{"graphs", 7, 1 << 30}};
  report.processes[0].gpu.devices = {device};
  CheckResult result = CheckAlone(report);
  EXPECT_EQ(Find(result, "gpu-residual-per-hour").outcome, Outcome::kNotMeasured);
  EXPECT_THAT(Find(result, "gpu-residual-per-hour").message, HasSubstr("too short"));
  report.processes[0].gpu.devices[0].residual->seconds = 60;
  result = CheckAlone(report);
  EXPECT_EQ(Find(result, "gpu-residual-per-hour").outcome, Outcome::kBroken);
  EXPECT_EQ(*Find(result, "gpu-residual-per-hour").value, 1e9);
  EXPECT_THAT(Find(result, "gpu-residual-per-hour").explanation,
              Contains("1.0 GiB came with graphs"));
  // Only what is sure breaks.
  report.processes[0].gpu.devices[0].residual->per_hour_low = 9 << 20;
  EXPECT_EQ(Find(CheckAlone(report), "gpu-residual-per-hour").outcome, Outcome::kKept);
}

TEST(Check, NamedStacks) {
  Sessions session;
  session.Add("app::Cache::Insert", "cache", [](double) { return 3 * kMiB; });
  session.AddTotals();
  Budgets budgets;
  budgets.stacks = {{"inserts", "Cache*Insert", "", 2 * kMiB, std::nullopt},
                    {"server", "", "server$", 4 * kMiB, std::nullopt},
                    {"nobody", "Nobody", "", 0, std::nullopt}};
  const CheckResult result = CheckAlone(session.report_, budgets);
  ASSERT_THAT(result.budgets, SizeIs(3));
  EXPECT_EQ(Find(result, "stack:inserts").outcome, Outcome::kBroken);
  EXPECT_THAT(Find(result, "stack:inserts").culprits, SizeIs(1));
  EXPECT_EQ(Find(result, "stack:server").outcome, Outcome::kKept);
  EXPECT_THAT(Find(result, "stack:nobody").explanation, ElementsAre("no stack matches"));
}

TEST(Check, SuppressionsAndUnusedOnes) {
  Sessions session;
  session.Add("KnownLeak", "leak", [](double at) { return 2 * kMiB * Served(at); });
  session.AddTotals();
  const std::vector<Suppression> suppressions = {*ParseSuppression("leak:KnownLeak"),
                                                 *ParseSuppression("leak:Gone")};
  const CheckResult result = CheckAlone(session.report_, StandardBudgets(), suppressions);
  EXPECT_FALSE(result.Broken());
  EXPECT_EQ(result.suppressions[0].stacks, 1u);
  EXPECT_THAT(result.notes, Contains("suppression not used: leak:Gone"));
  EXPECT_THAT(Find(result, "growth-per-request").explanation, Contains(HasSubstr("suppressed")));
}

TEST(Check, AgainstABaselineOnlyWhatGotWorseBreaks) {
  const auto leaking = [](double per_request) {
    Sessions session;
    ReportGroup& group =
        session.Add("OldLeak", "leak", [&](double at) { return per_request * Served(at); });
    group.bytes_per_request = ReportRate{per_request, per_request, per_request};
    session.AddTotals();
    return session;
  };
  const Sessions before = leaking(2 * kMiB);
  const CheckResult same =
      Check(leaking(2.1 * kMiB).report_, StandardBudgets(), {}, &before.report_);
  EXPECT_FALSE(same.Broken());
  EXPECT_EQ(Find(same, "leak-confidence").outcome, Outcome::kNoWorse);
  EXPECT_EQ(Find(same, "growth-per-request").outcome, Outcome::kNoWorse);
  EXPECT_NEAR(*Find(same, "growth-per-request").baseline, 2 * kMiB, 1);

  const CheckResult worse =
      Check(leaking(3 * kMiB).report_, StandardBudgets(), {}, &before.report_);
  EXPECT_EQ(Find(worse, "leak-confidence").outcome, Outcome::kBroken);
  EXPECT_EQ(Find(worse, "growth-per-request").outcome, Outcome::kBroken);

  Sessions another = leaking(2 * kMiB);
  another.Add("NewLeak", "leak", [](double at) { return 64 * Served(at); });
  const CheckResult result = Check(another.report_, StandardBudgets(), {}, &before.report_);
  ASSERT_THAT(Find(result, "leak-confidence").culprits, SizeIs(1));
  EXPECT_EQ(Find(result, "leak-confidence").culprits[0].group, 1u);
}

TEST(Check, WithoutMarksOrPhasesItSaysWhatItCannotTell) {
  Sessions session;
  session.Add("Leak", "leak", [](double at) { return 4096 * at; });
  session.AddTotals();
  session.report_.requests = 0;
  session.report_.phases.clear();
  std::fill(session.report_.timeline->requests.begin(), session.report_.timeline->requests.end(),
            0);
  const CheckResult result = CheckAlone(session.report_);
  EXPECT_EQ(Find(result, "growth-per-request").outcome, Outcome::kNotMeasured);
  EXPECT_EQ(Find(result, "retained-after-unload").outcome, Outcome::kNotMeasured);
  EXPECT_EQ(Find(result, "growth-per-hour").outcome, Outcome::kBroken);
  EXPECT_THAT(result.notes, Contains(HasSubstr("no requests are marked")));
}

// ---- The documents

// Names that try to break out of each format.
Sessions Nasty() {
  Sessions session;
  ReportGroup& group = session.Add("f<\"'&|`_*\n\x01\xff%0A]]>::error::x", "leak",
                                   [](double at) { return 4096 * Served(at); });
  group.advice = "free | it <b>\n::error::y";
  session.report_.frames[0].file = "/root dir/a:b,c%.cc";
  session.AddTotals();
  return session;
}

struct Rendered {
  Sessions session = Nasty();
  CheckResult result = CheckAlone(session.report_);
  CheckView view{result, session.report_, "ses<sion", "/root dir", "1.2.3"};
};

TEST(CheckRenderers, EveryFormatIsFoundByItsName) {
  EXPECT_THAT(CheckFormatNames(),
              ElementsAre("text", "markdown", "junit", "sarif", "github", "json"));
  EXPECT_EQ(FindCheckFormat("html"), nullptr);
  const Rendered rendered;
  EXPECT_EQ(FindCheckFormat("text")->render(rendered.view), CheckAsText(rendered.view));
}

TEST(CheckRenderers, TextNamesFunctionAndLine) {
  Sessions session;
  session.Add("Leak", "leak", [](double at) { return 4096 * Served(at); });
  session.AddTotals();
  const CheckResult result = CheckAlone(session.report_);
  const std::string text = CheckAsText({result, session.report_, "trace/", "/src", "1"});
  EXPECT_THAT(text, HasSubstr("2 of 5 measured budgets are broken (trace/, 120 requests"));
  EXPECT_THAT(text, HasSubstr("Leak app/leak.cc:31 (server)"));
  EXPECT_THAT(text, HasSubstr("not measured: no GPU memory"));
  EXPECT_THAT(text, HasSubstr("score: "));
}

TEST(CheckRenderers, TextHasNoControlCharacters) {
  const Rendered rendered;
  for (const char c : CheckAsText(rendered.view)) {
    EXPECT_TRUE(static_cast<unsigned char>(c) >= 0x20 || c == '\n');
  }
}

TEST(CheckRenderers, GithubCommandsAreOneLineEach) {
  const Rendered rendered;
  const std::string text = CheckAsGithub(rendered.view);
  EXPECT_THAT(text,
              HasSubstr("::error file=a%3Ab%2Cc%25.cc,line=31,title=memory%3A leaking stacks::"));
  EXPECT_THAT(text, HasSubstr("%250A"));  // what looked like an escape is none
  EXPECT_EQ(text.find("\n::error::"), std::string::npos);
}

TEST(CheckRenderers, MarkdownCellsStayCells) {
  const Rendered rendered;
  const std::string text = CheckAsMarkdown(rendered.view);
  EXPECT_THAT(text, HasSubstr("### leaking stacks"));
  EXPECT_THAT(text, HasSubstr("a:b,c%.cc:31"));
  EXPECT_EQ(text.find("<b>"), std::string::npos);
  EXPECT_THAT(text, HasSubstr("free \\| it &lt;b"));
}

TEST(CheckRenderers, Sarif) {
  const Rendered rendered;
  const auto sarif = nlohmann::json::parse(CheckAsSarif(rendered.view));
  EXPECT_EQ(sarif["version"], "2.1.0");
  const auto& run = sarif["runs"][0];
  EXPECT_EQ(run["tool"]["driver"]["version"], "1.2.3");
  EXPECT_EQ(run["originalUriBaseIds"]["SRCROOT"]["uri"], "file:///root%20dir/");
  const auto& result = run["results"][0];
  EXPECT_EQ(result["ruleId"], "leak-confidence");
  const auto& place = result["locations"][0]["physicalLocation"];
  EXPECT_EQ(place["artifactLocation"]["uri"], "a%3Ab,c%25.cc");
  EXPECT_EQ(place["artifactLocation"]["uriBaseId"], "SRCROOT");
  EXPECT_EQ(place["region"]["startLine"], 31);
  EXPECT_EQ(result["stacks"][0]["frames"].size(), 2u);
  EXPECT_EQ(result["properties"]["verdict"], "leak");
}

TEST(CheckRenderers, SarifWithoutASourceFile) {
  Rendered rendered;
  rendered.session.report_.frames[0].file.clear();
  const auto sarif = nlohmann::json::parse(CheckAsSarif(rendered.view));
  const auto& result = sarif["runs"][0]["results"][0];
  EXPECT_FALSE(result["locations"][0].contains("physicalLocation"));
  EXPECT_TRUE(result["locations"][0].contains("logicalLocations"));
}

TEST(CheckRenderers, Json) {
  const Rendered rendered;
  const auto json = nlohmann::json::parse(CheckAsJson(rendered.view));
  EXPECT_EQ(json["schema"], "ollama-leakview/check/1");
  EXPECT_EQ(json["broken"], true);
  EXPECT_EQ(json["budgets"][0]["outcome"], "broken");
  EXPECT_EQ(json["budgets"][0]["culprits"][0]["frames"][0]["line"], 31);
  EXPECT_EQ(json["score"]["grade"], "poor");
}

TEST(CheckRenderers, JunitHasNoForbiddenCharacters) {
  const Rendered rendered;
  const std::string xml = CheckAsJunit(rendered.view);
  EXPECT_THAT(xml, HasSubstr("<testsuite name=\"ses&lt;sion\" tests=\"11\" failures=\"2\""));
  EXPECT_THAT(xml, HasSubstr("file=\"a:b,c%.cc\" line=\"31\""));
  EXPECT_THAT(xml, HasSubstr("f&lt;&quot;'&amp;|`_*\n??%0A]]&gt;"));
  EXPECT_EQ(xml.find('\xff'), std::string::npos);
}

}  // namespace
}  // namespace ollamatrace
