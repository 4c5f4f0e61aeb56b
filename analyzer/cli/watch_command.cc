#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_replace.h"
#include "analyzer/cli/arguments.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/read_small_file.h"
#include "analyzer/cli/symbol_options.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/watch/breach.h"
#include "analyzer/watch/metrics.h"
#include "analyzer/watch/session_watch.h"
#include "analyzer/watch/watch_server.h"
#include "analyzer/watch/watch_text.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview watch [OPTION...] PATH...\n"
    "\n"
    "Memory of the processes of a session while they run, from their traces and journals; the "
    "processes themselves are not\n"
    "touched. On a terminal a page that is drawn anew; else lines. Budgets are off unless they are "
    "given.\n"
    "--listen serves /metrics (Prometheus), /healthz (503 while a budget is broken) and "
    "/api/report (JSON).\n"
    "Exit code with --once: 0: fine; 1: a budget is broken.\n"
    "\n"
    "Example: ollama-leakview watch --listen=127.0.0.1:9469 --peak=16G "
    "--on-breach='systemctl restart ollama' /var/lib/ollamatrace\n";

struct WatchArguments {
  bool help = false;
  std::vector<std::string> paths;
  SymbolizerOptions symbols = StandardSymbols();
  double interval = 2;
  bool once = false;
  std::string listen;
  std::string budget_file;
  Budgets budgets;
  AlarmOptions alarm;
};

std::function<absl::Status(absl::string_view)> Text(std::string& text) {
  return [&text](absl::string_view value) {
    if (value.empty()) return absl::InvalidArgumentError("empty");
    text = std::string(value);
    return absl::OkStatus();
  };
}

std::function<absl::Status(absl::string_view)> Time(double& seconds, double least) {
  return [&seconds, least](absl::string_view value) {
    absl::Status status = ParseSeconds(value, seconds);
    if (status.ok() && seconds < least) {
      status = absl::InvalidArgumentError(absl::StrCat("shorter than ", least, " s"));
    }
    return status;
  };
}

std::vector<Option> Options(WatchArguments& arguments) {
  std::vector<Option> options = {
      {"--interval", "TIME", "between two looks (default: 2s)", Time(arguments.interval, 0.1)},
      {"--once", "", "one look, as lines, and the end",
       [&](absl::string_view) {
         arguments.once = true;
         return absl::OkStatus();
       }},
      {"--listen", "HOST:PORT", "serve /metrics, /healthz and /api/report there",
       Text(arguments.listen)},
      {"--on-breach", "CMD",
       "sh -c CMD when a budget breaks, with OLLAMATRACE_BREACH (its name),\n"
       "OLLAMATRACE_MESSAGE, OLLAMATRACE_SESSION, OLLAMATRACE_BREACH_JSON",
       Text(arguments.alarm.command)},
      {"--webhook", "URL", "POST there when a budget breaks: JSON with \"text\", as chats take it",
       Text(arguments.alarm.webhook)},
      {"--alert-every", "TIME", "not more often, for each budget (default: 10min)",
       Time(arguments.alarm.every_seconds, 0)},
      {"--budget", "FILE", "a YAML file with budgets, as of `check`; others than below are ignored",
       Text(arguments.budget_file)},
  };
  for (const BudgetKind kind : WatchedBudgets()) {
    const BudgetSpec& spec = BudgetSpecs()[static_cast<size_t>(kind)];
    options.push_back({absl::StrCat("--", spec.name),
                       spec.unit == BudgetUnit::kBytes ? "SIZE" : "N", spec.help,
                       [&arguments, &spec](absl::string_view value) {
                         double number = 0;
                         absl::Status status = ParseBudgetValue(spec.unit, value, number);
                         if (status.ok()) arguments.budgets[spec.kind] = number;
                         return status;
                       }});
  }
  for (Option& option : SymbolOptions(arguments.symbols)) options.push_back(std::move(option));
  options.push_back({"-h, --help", "", "this text", [&](absl::string_view) {
                       arguments.help = true;
                       return absl::OkStatus();
                     }});
  return options;
}

absl::Status Parse(const std::vector<std::string>& words, WatchArguments& arguments) {
  // The file first: flags go before it.
  WatchArguments first;
  std::vector<std::string> ignored;
  absl::Status status = ParseArguments(words, Options(first), false, ignored);
  if (!status.ok()) return status;
  if (!first.budget_file.empty()) {
    const absl::StatusOr<std::string> text = ReadSmallFile(first.budget_file);
    if (!text.ok()) return text.status();
    status = ReadBudgets(first.budget_file, *text, arguments.budgets);
    if (!status.ok()) return status;
  }
  status = ParseArguments(words, Options(arguments), false, arguments.paths);
  if (!status.ok() || arguments.help) return status;
  if (arguments.paths.empty()) {
    return absl::InvalidArgumentError(
        "no trace given; name a trace or a session folder (see --help)");
  }
  bool any = false;
  for (const BudgetKind kind : WatchedBudgets()) any = any || arguments.budgets[kind];
  if (!any && (!arguments.alarm.command.empty() || !arguments.alarm.webhook.empty())) {
    return absl::InvalidArgumentError(
        "--on-breach and --webhook need a budget, like --peak=16G or --growth-per-hour=10M");
  }
  if (arguments.once && !arguments.listen.empty()) {
    return absl::InvalidArgumentError("--once ends at once: there is nothing to --listen for");
  }
  arguments.alarm.session = absl::StrJoin(arguments.paths, " ");
  return absl::OkStatus();
}

constexpr int kStopMs = 200;  // within which a signal to stop is noticed
constexpr int kReportNice = 10;

std::atomic<bool> g_stop{false};
void OnStop(int) { g_stop = true; }

std::string Clock() {
  const time_t now = time(nullptr);
  tm local;
  char text[32] = "";
  if (localtime_r(&now, &local) != nullptr) strftime(text, sizeof(text), "%F %T", &local);
  return text;
}

// The report in JSON, by a process of its own: it takes as much memory as it takes. "" when it
// cannot be made, and when the watch is to stop.
std::string ReportOf(const std::vector<std::string>& paths) {
  std::vector<std::string> words = {"ollama-leakview", "report", "--format=json", "--top=100"};
  words.insert(words.end(), paths.begin(), paths.end());
  std::vector<char*> argv;
  for (std::string& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return "";
  const pid_t child = fork();
  if (child == 0) {
    dup2(ends[1], STDOUT_FILENO);
    close_range(STDERR_FILENO + 1, ~0u, 0);
    setpriority(PRIO_PROCESS, 0, kReportNice);  // the server that is watched comes first
    execv("/proc/self/exe", argv.data());
    _exit(127);
  }
  close(ends[1]);
  std::string text;
  char buffer[1 << 14];
  while (!g_stop) {
    pollfd end = {ends[0], POLLIN, 0};
    if (poll(&end, 1, kStopMs) <= 0) continue;
    const ssize_t got = read(ends[0], buffer, sizeof(buffer));
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;
    text.append(buffer, static_cast<size_t>(got));
  }
  close(ends[0]);
  if (child > 0 && g_stop) kill(child, SIGKILL);
  int status = 0;
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0 ? text : "";
}

ServedState Served(const WatchSnapshot& snapshot, const std::vector<Breach>& breaches,
                   const Budgets& budgets, uint64_t alarms) {
  ServedState state;
  state.metrics = MetricsText(snapshot, breaches, budgets, alarms);
  state.healthy = breaches.empty();
  state.health = "ok";
  if (!breaches.empty()) state.health = breaches[0].message;
  return state;
}

std::string Shown(const WatchSnapshot& snapshot, const std::vector<Breach>& breaches, bool page) {
  if (page) {
    winsize size = {};
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0) size = {24, 80, 0, 0};
    // Over the page before, line by line: it doesn't flicker.
    const std::string lines = WatchPage(snapshot, breaches, size.ws_row - 1u, size.ws_col);
    return absl::StrCat("\x1b[H", absl::StrReplaceAll(lines, {{"\n", "\x1b[K\n"}}), "\x1b[J");
  }
  const std::string time = Clock();
  std::string text = WatchLines(snapshot, time);
  for (const Breach& breach : breaches)
    absl::StrAppend(&text, time, " BROKEN ", breach.message, "\n");
  return text;
}

// At once: somebody looks at it. False: whoever read it has gone.
bool Print(absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(STDOUT_FILENO, text.data(), text.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return false;
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

// The terminal's other page, without a cursor (xterm's control sequences), while this lives.
class Screen {
 public:
  Screen() { Print("\x1b[?1049h\x1b[?25l"); }
  ~Screen() { Print("\x1b[?25h\x1b[?1049l"); }
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
};

void Sleep(double seconds) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!g_stop && std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::min<std::chrono::duration<double>>(
        std::chrono::milliseconds(kStopMs), end - std::chrono::steady_clock::now()));
  }
}

int Run(const WatchArguments& arguments) {
  SessionWatch watch(arguments.paths, WithNamesBeside(arguments.symbols, arguments.paths));
  BreachAlarm alarm(arguments.alarm);
  absl::Status status = watch.Refresh();
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  std::optional<WatchServer> server;
  if (!arguments.listen.empty()) {
    server.emplace([&] { return ReportOf(arguments.paths); });
    server->Set(Served(watch.snapshot(), FindBreaches(watch.snapshot(), arguments.budgets),
                       arguments.budgets, alarm.told()));
    if (status = server->Start(arguments.listen); !status.ok()) {
      PrintError(status.message());
      return kExitUsage;
    }
    PrintError(absl::StrCat("listening on port ", server->port()));
  }
  const std::optional<Screen> screen = !arguments.once && isatty(STDOUT_FILENO) == 1
                                           ? std::optional<Screen>(std::in_place)
                                           : std::nullopt;
  std::vector<Breach> breaches;
  while (true) {
    const WatchSnapshot& snapshot = watch.snapshot();
    breaches = FindBreaches(snapshot, arguments.budgets);
    for (const std::string& error : alarm.Tell(breaches, snapshot.seconds)) PrintError(error);
    if (server) {
      server->Set(Served(snapshot, breaches, arguments.budgets, alarm.told()));
    }
    if (!Print(Shown(snapshot, breaches, screen.has_value()))) return kExitFine;
    if (arguments.once || g_stop) break;
    Sleep(arguments.interval);
    if (g_stop) break;
    if (status = watch.Refresh(); !status.ok()) {
      PrintError(status.message());
      return kExitUnreadable;
    }
  }
  return arguments.once && !breaches.empty() ? kExitBroken : kExitFine;
}

}  // namespace

Manual WatchManual() {
  WatchArguments arguments;
  return MakeManual(kHelp, Options(arguments));
}

int WatchCommand(const std::vector<std::string>& words) {
  WatchArguments arguments;
  if (const absl::Status status = Parse(words, arguments); !status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (arguments.help) return PrintHelp(WatchManual());
  struct sigaction action = {};
  action.sa_handler = OnStop;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  action.sa_handler = SIG_IGN;
  sigaction(SIGPIPE, &action, nullptr);  // a reader that has seen enough ends it: see Print
  return Run(arguments);
}

}  // namespace ollamatrace
