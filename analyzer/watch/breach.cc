#include "analyzer/watch/breach.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "nlohmann/json.hpp"

extern char** environ;

namespace ollamatrace {
namespace {

constexpr BudgetKind kWatched[] = {BudgetKind::kGrowthPerHour, BudgetKind::kOpenFilesGrowth,
                                   BudgetKind::kPeak, BudgetKind::kRssGrowth};
constexpr size_t kMostCommands = 4;

// "; most: llama-server [12]: LeakPrompt (leaks.cc:31) +1.2 MiB".
std::string WhatGrew(const WatchSnapshot& snapshot) {
  const WatchedProcess* process = nullptr;
  const WatchedGroup* most = nullptr;
  for (const WatchedProcess& one : snapshot.processes) {
    for (const WatchedGroup& group : one.groups) {
      if (group.growth_bytes <= (most == nullptr ? 0 : most->growth_bytes)) continue;
      most = &group;
      process = &one;
    }
  }
  if (most == nullptr) return "";
  return absl::StrCat(
      "; most of it: ", process->name, " [", process->pid, "]: ", most->name.Text(), " +",
      FormatBudgetValue(BudgetUnit::kBytes, static_cast<double>(most->growth_bytes)));
}

double More(std::optional<uint64_t> now, uint64_t first) {
  return now ? std::max(0.0, static_cast<double>(*now) - static_cast<double>(first)) : 0;
}

}  // namespace

absl::Span<const BudgetKind> WatchedBudgets() { return kWatched; }

std::vector<Breach> FindBreaches(const WatchSnapshot& snapshot, const Budgets& budgets) {
  std::vector<Breach> breaches;
  const auto check = [&](BudgetKind kind, double value, double sure) {
    if (!budgets[kind] || sure <= *budgets[kind]) return;
    const BudgetSpec& spec = BudgetSpecs()[static_cast<size_t>(kind)];
    breaches.push_back(
        {spec.name,
         absl::StrCat(spec.title, ": ", FormatBudgetValue(spec.unit, value), ", allowed ",
                      FormatBudgetValue(spec.unit, *budgets[kind]), WhatGrew(snapshot)),
         value, *budgets[kind]});
  };
  if (snapshot.growth_by_hour) {
    check(BudgetKind::kGrowthPerHour, snapshot.growth_by_hour->by_hour,
          snapshot.growth_by_hour->sure);
  }
  const double files = More(snapshot.open_files, snapshot.first_open_files);
  check(BudgetKind::kOpenFilesGrowth, files, files);
  const double level = std::max(static_cast<double>(snapshot.rss_bytes.value_or(0)),
                                static_cast<double>(snapshot.live_bytes));
  check(BudgetKind::kPeak, level, level);
  const double grown = More(snapshot.rss_bytes, snapshot.first_rss_bytes);
  check(BudgetKind::kRssGrowth, grown, grown);
  return breaches;
}

std::string BreachAlarm::Json(const Breach& breach) const {
  // "text" is what chat webhooks show (Slack, Mattermost, Rocket.Chat).
  const nlohmann::ordered_json json = {
      {"text", absl::StrCat("ollamatrace: ", options_.session, ": ", breach.message)},
      {"schema", "ollama-leakview/breach/1"},
      {"session", options_.session},
      {"budget", breach.budget},
      {"value", breach.value},
      {"limit", breach.limit}};
  return json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

void BreachAlarm::Reap() {
  std::erase_if(commands_, [](pid_t pid) { return waitpid(pid, nullptr, WNOHANG) != 0; });
}

bool BreachAlarm::Run(const Breach& breach, std::string& error) {
  if (commands_.size() >= kMostCommands) {
    error = absl::StrCat("--on-breach: ", kMostCommands, " commands still run: not run again");
    return false;
  }
  std::vector<std::string> settings = {absl::StrCat("OLLAMATRACE_BREACH=", breach.budget),
                                       absl::StrCat("OLLAMATRACE_MESSAGE=", breach.message),
                                       absl::StrCat("OLLAMATRACE_SESSION=", options_.session),
                                       absl::StrCat("OLLAMATRACE_BREACH_JSON=", Json(breach))};
  std::vector<char*> envp;
  for (char** one = environ; *one != nullptr; ++one) envp.push_back(*one);
  for (std::string& one : settings) envp.push_back(one.data());
  envp.push_back(nullptr);
  std::string shell = "/bin/sh", flag = "-c", command = options_.command;
  char* argv[] = {shell.data(), flag.data(), command.data(), nullptr};
  const pid_t pid = fork();
  if (pid == 0) {
    setpgid(0, 0);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    const int input = open("/dev/null", O_RDONLY);
    if (input >= 0) dup2(input, STDIN_FILENO);
    close_range(STDERR_FILENO + 1, ~0u, 0);  // a command may outlive us: it keeps no port of ours
    execve(argv[0], argv, envp.data());
    _exit(127);
  }
  if (pid < 0) {
    error = absl::StrCat("--on-breach: ", strerror(errno));
    return false;
  }
  commands_.push_back(pid);
  return true;
}

bool BreachAlarm::Post(const Breach& breach, std::string& error) {
  const HttpAnswer answer = client_.Post(options_.webhook, Json(breach), kWebhookSeconds);
  if (answer.status >= 200 && answer.status < 300) return true;
  error = absl::StrCat(options_.webhook, ": ",
                       answer.status == 0 ? answer.error : absl::StrCat("HTTP ", answer.status),
                       "; tried again later");
  return false;
}

std::vector<std::string> BreachAlarm::Tell(const std::vector<Breach>& breaches, double seconds) {
  Reap();
  std::vector<std::string> errors;
  for (const Breach& breach : breaches) {
    const auto next = next_.find(breach.budget);
    if (next != next_.end() && seconds < next->second) continue;
    bool told = true;
    std::string error;
    if (!options_.webhook.empty() && !Post(breach, error)) told = false;
    // A command that has run is not run again because the webhook failed.
    if (told && !options_.command.empty() && !Run(breach, error)) told = false;
    if (!error.empty()) errors.push_back(error);
    told_ += told;
    next_[breach.budget] =
        seconds + (told ? options_.every_seconds : std::min(options_.every_seconds, kRetrySeconds));
  }
  // One that is over begins anew, but not within the time.
  for (auto it = next_.begin(); it != next_.end();) {
    const bool lasts = std::any_of(breaches.begin(), breaches.end(),
                                   [&](const Breach& one) { return one.budget == it->first; });
    it = !lasts && seconds >= it->second ? next_.erase(it) : std::next(it);
  }
  return errors;
}

}  // namespace ollamatrace
