// Budgets that a running session breaks, and who is told.
#ifndef OLLAMATRACE_ANALYZER_WATCH_BREACH_H_
#define OLLAMATRACE_ANALYZER_WATCH_BREACH_H_

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

#include "absl/types/span.h"
#include "analyzer/gate/budget.h"
#include "analyzer/soak/http_client.h"
#include "analyzer/watch/session_watch.h"

namespace ollamatrace {

// Those that the present tells: growth-per-hour, open-files-growth, peak, rss-growth.
absl::Span<const BudgetKind> WatchedBudgets();

struct Breach {
  std::string budget;   // "peak"
  std::string message;  // one sentence: what was found, against what, and what grew most
  double value = 0;
  double limit = 0;
};
std::vector<Breach> FindBreaches(const WatchSnapshot& snapshot, const Budgets& budgets);

struct AlarmOptions {
  std::string command;  // for sh -c; empty: none
  std::string webhook;  // empty: none
  double every_seconds = 600;
  std::string session;
};

// Tells of a breach when it begins and, while it lasts, every so often; each budget for itself. Not
// thread-safe.
class BreachAlarm {
 public:
  explicit BreachAlarm(AlarmOptions options) : options_(std::move(options)) {
    client_.set_connect_timeout(kWebhookSeconds);
  }

  // `seconds`: a clock that does not go back. Returns what went wrong in telling, one line each.
  std::vector<std::string> Tell(const std::vector<Breach>& breaches, double seconds);
  uint64_t told() const { return told_; }

 private:
  static constexpr double kWebhookSeconds = 5;
  static constexpr double kRetrySeconds = 30;

  bool Run(const Breach& breach, std::string& error);
  bool Post(const Breach& breach, std::string& error);
  void Reap();
  std::string Json(const Breach& breach) const;

  const AlarmOptions options_;
  HttpClient client_;
  std::map<std::string, double> next_;  // by budget: not before
  std::vector<pid_t> commands_;         // that run
  uint64_t told_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_BREACH_H_
