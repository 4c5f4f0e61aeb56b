#include "analyzer/watch/breach.h"

#include <algorithm>
#include <string>

#include "analyzer/watch/metrics.h"
#include "analyzer/watch/watch_text.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::SizeIs;

WatchSnapshot Growing() {
  WatchSnapshot snapshot;
  snapshot.seconds = 300;
  snapshot.live_bytes = 100 << 20;
  snapshot.rss_bytes = 200 << 20;
  snapshot.first_rss_bytes = 50 << 20;
  snapshot.open_files = 300;
  snapshot.first_open_files = 10;
  snapshot.growth_by_hour = LevelHistory::Slope{2000.0 * (1 << 20), 1900.0 * (1 << 20)};
  snapshot.requests = 42;
  WatchedProcess process;
  process.pid = 7;
  process.name = "ser\"ver";
  process.heap_bytes = 100 << 20;
  process.rss_anon = 200 << 20;
  WatchedGroup group;
  group.name = {"app::Leak", "/src/leak.cc", 31, "/bin/server"};
  group.domain = "heap";
  group.live_bytes = 90 << 20;
  group.growth_bytes = 80 << 20;
  process.groups = {group, group};
  snapshot.processes = {process};
  return snapshot;
}

TEST(FindBreaches, EachWatchedBudget) {
  const WatchSnapshot snapshot = Growing();
  Budgets budgets;
  EXPECT_THAT(FindBreaches(snapshot, budgets), IsEmpty());
  for (const BudgetKind kind : WatchedBudgets()) {
    budgets[kind] = kind == BudgetKind::kOpenFilesGrowth ? 100 : 64 << 20;
  }
  const std::vector<Breach> breaches = FindBreaches(snapshot, budgets);
  ASSERT_THAT(breaches, SizeIs(4));
  EXPECT_EQ(breaches[2].budget, "peak");
  EXPECT_THAT(breaches[2].message, HasSubstr("200.0 MiB, allowed 64.0 MiB; most of it: "));
  EXPECT_THAT(breaches[2].message, HasSubstr("app::Leak (leak.cc:31) +80.0 MiB"));
  for (const BudgetKind kind : WatchedBudgets()) budgets[kind] = 1e12;
  EXPECT_THAT(FindBreaches(snapshot, budgets), IsEmpty());
}

TEST(FindBreaches, AnUnsureSlopeIsNone) {
  WatchSnapshot snapshot = Growing();
  snapshot.growth_by_hour->sure = 0;
  Budgets budgets;
  budgets[BudgetKind::kGrowthPerHour] = 1 << 20;
  EXPECT_THAT(FindBreaches(snapshot, budgets), IsEmpty());
}

TEST(BreachAlarm, TellsNotMoreOftenThanAsked) {
  const std::string file = testing::TempDir() + "/told";
  BreachAlarm alarm({.command = "echo $OLLAMATRACE_BREACH >> " + file, .every_seconds = 600});
  const std::vector<Breach> peak = {{"peak", "too much", 2, 1}};
  EXPECT_THAT(alarm.Tell(peak, 0), IsEmpty());
  alarm.Tell(peak, 1);
  alarm.Tell({}, 2);
  alarm.Tell(peak, 3);  // over and back again: still within the time
  EXPECT_EQ(alarm.told(), 1u);
  alarm.Tell({peak[0], {"rss-growth", "more", 2, 1}}, 4);  // another budget is another matter
  EXPECT_EQ(alarm.told(), 2u);
  alarm.Tell(peak, 601);
  EXPECT_EQ(alarm.told(), 3u);
}

TEST(BreachAlarm, AWebhookThatFailsIsTriedAgain) {
  BreachAlarm alarm({.webhook = "http://127.0.0.1:1/", .every_seconds = 600});
  const std::vector<Breach> peak = {{"peak", "too much", 2, 1}};
  const std::vector<std::string> errors = alarm.Tell(peak, 0);
  ASSERT_THAT(errors, SizeIs(1));
  EXPECT_THAT(errors[0], HasSubstr("http://127.0.0.1:1/: "));
  EXPECT_THAT(alarm.Tell(peak, 5), IsEmpty());
  EXPECT_THAT(alarm.Tell(peak, 31), SizeIs(1));
  EXPECT_EQ(alarm.told(), 0u);
}

TEST(Metrics, SeriesOfProcessesAndStacks) {
  Budgets budgets;
  budgets[BudgetKind::kPeak] = 64 << 20;
  const WatchSnapshot snapshot = Growing();
  const std::string text = MetricsText(snapshot, FindBreaches(snapshot, budgets), budgets, 3);
  EXPECT_THAT(text, HasSubstr("ollamatrace_live_bytes{domain=\"heap\",pid=\"7\",process="
                              "\"ser\\\"ver\"} 104857600"));
  EXPECT_THAT(text, HasSubstr("ollamatrace_budget_broken{budget=\"peak\"} 1"));
  EXPECT_THAT(text, HasSubstr("ollamatrace_requests_total 42"));
  EXPECT_THAT(text, HasSubstr("ollamatrace_alarms_total 3"));
  EXPECT_THAT(text, HasSubstr("place=\"/src/leak.cc:31\""));
  // Two stacks with the same labels are one series.
  EXPECT_THAT(text, HasSubstr("188743680"));
  EXPECT_THAT(text, HasSubstr("# TYPE ollamatrace_rss_anon_bytes gauge"));
}

TEST(WatchText, PagesFitTheTerminal) {
  const WatchSnapshot snapshot = Growing();
  const std::string page = WatchPage(snapshot, {}, 3, 40);
  EXPECT_EQ(std::count(page.begin(), page.end(), '\n'), 3);
  EXPECT_THAT(WatchPage(snapshot, {}, 50, 200), HasSubstr("app::Leak (leak.cc:31)"));
  EXPECT_THAT(WatchLines(snapshot, "12:00"), HasSubstr("12:00 ser\"ver[7] heap 100.0 MiB"));
  EXPECT_THAT(WatchLines({}, "12:00"), HasSubstr("no traced process is alive"));
}

}  // namespace
}  // namespace ollamatrace
