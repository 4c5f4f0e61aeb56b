#include "analyzer/watch/metrics.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "prometheus/counter.h"
#include "prometheus/gauge.h"
#include "prometheus/registry.h"
#include "prometheus/text_serializer.h"

namespace ollamatrace {
namespace {

using Labels = prometheus::Labels;

// Made anew for each scrape: what is not there any more leaves nothing behind.
class Writer {
 public:
  void Gauge(const char* name, const char* help, const Labels& labels, double value) {
    prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels).Set(value);
  }
  void Gauge(const char* name, const char* help, const Labels& labels,
             const std::optional<uint64_t>& value) {
    if (value) Gauge(name, help, labels, static_cast<double>(*value));
  }
  void Add(const char* name, const char* help, const Labels& labels, double value) {
    prometheus::BuildGauge().Name(name).Help(help).Register(registry_).Add(labels).Increment(value);
  }
  void Counter(const char* name, const char* help, const Labels& labels, uint64_t value) {
    prometheus::BuildCounter().Name(name).Help(help).Register(registry_).Add(labels).Increment(
        static_cast<double>(value));
  }
  std::string Text() { return prometheus::TextSerializer().Serialize(registry_.Collect()); }

 private:
  // The same family may be asked for again and again.
  prometheus::Registry registry_{prometheus::Registry::InsertBehavior::Merge};
};

// Label values are UTF-8 (prometheus.io, "Data model").
std::string Utf8(const std::string& text) {
  std::string clean;
  for (const char c : text) clean.push_back(static_cast<unsigned char>(c) < 0x80 ? c : '?');
  return clean;
}

void AddProcess(const WatchedProcess& process, Writer& writer) {
  const Labels of = {{"pid", absl::StrCat(process.pid)}, {"process", Utf8(process.name)}};
  const auto with = [&](const char* name, const std::string& value) {
    Labels labels = of;
    labels[name] = value;
    return labels;
  };
  const char* live = "Bytes that the process has allocated and not freed.";
  if (process.followed) {
    writer.Gauge("ollamatrace_live_bytes", live, with("domain", "heap"),
                 static_cast<double>(process.heap_bytes));
    writer.Gauge("ollamatrace_live_bytes", live, with("domain", "gpu"),
                 static_cast<double>(process.gpu_bytes));
    writer.Gauge("ollamatrace_live_blocks", "Blocks that are live.", of,
                 static_cast<double>(process.live_blocks));
  }
  writer.Gauge("ollamatrace_live_bytes", live, with("domain", "mapping"),
               static_cast<double>(process.mapped_bytes));
  writer.Gauge("ollamatrace_rss_anon_bytes", "RssAnon of /proc/PID/status.", of, process.rss_anon);
  writer.Gauge("ollamatrace_rss_file_bytes", "RssFile of /proc/PID/status.", of, process.rss_file);
  writer.Gauge("ollamatrace_swap_bytes", "VmSwap of /proc/PID/status.", of, process.swap);
  writer.Gauge("ollamatrace_retained_bytes", "Free in the allocator, not returned to the kernel.",
               of, process.retained);
  writer.Gauge("ollamatrace_open_files", "Open files and sockets.", of, process.open_files);
  writer.Gauge("ollamatrace_threads", "Threads.", of, process.threads);
  if (process.growth_by_hour) {
    writer.Gauge("ollamatrace_growth_bytes_per_hour",
                 "Slope of live bytes after the warm-up (Theil and Sen).", of,
                 process.growth_by_hour->by_hour);
  }
  writer.Counter("ollamatrace_lost_events_total", "Events that are not in the trace.", of,
                 process.lost_events);
  for (const WatchedGroup& group : process.groups) {
    Labels labels = of;
    labels["function"] = Utf8(group.name.function);
    labels["place"] = group.name.file.empty()
                          ? Utf8(group.name.module)
                          : absl::StrCat(Utf8(group.name.file), ":", group.name.line);
    labels["domain"] = group.domain;
    // Two stacks may look the same in these labels: they are one series.
    writer.Add("ollamatrace_stack_live_bytes", "Live bytes of the stacks that grew most.", labels,
               static_cast<double>(group.live_bytes));
    writer.Add("ollamatrace_stack_growth_bytes", "Growth of these since the watch began.", labels,
               static_cast<double>(std::max<int64_t>(0, group.growth_bytes)));
  }
}

}  // namespace

std::string MetricsText(const WatchSnapshot& snapshot, const std::vector<Breach>& breaches,
                        const Budgets& budgets, uint64_t alarms) {
  Writer writer;
  writer.Gauge("ollamatrace_processes", "Traced processes that are alive.", {},
               static_cast<double>(snapshot.processes.size()));
  writer.Counter("ollamatrace_ended_processes_total", "Traced processes that have ended.", {},
                 snapshot.ended_processes);
  writer.Counter("ollamatrace_requests_total", "Requests marked as answered.", {},
                 snapshot.requests);
  writer.Counter("ollamatrace_alarms_total", "Alarms that went out.", {}, alarms);
  for (const BudgetKind kind : WatchedBudgets()) {
    if (!budgets[kind]) continue;
    const std::string name = BudgetSpecs()[static_cast<size_t>(kind)].name;
    const bool broken = std::any_of(breaches.begin(), breaches.end(),
                                    [&](const Breach& one) { return one.budget == name; });
    writer.Gauge("ollamatrace_budget_broken", "1 while the budget is broken.", {{"budget", name}},
                 broken ? 1.0 : 0.0);
  }
  for (const WatchedProcess& process : snapshot.processes) AddProcess(process, writer);
  return writer.Text();
}

}  // namespace ollamatrace
