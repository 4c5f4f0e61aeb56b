// The program's standard output and standard error.
#ifndef OLLAMATRACE_ANALYZER_CLI_TERMINAL_H_
#define OLLAMATRACE_ANALYZER_CLI_TERMINAL_H_

#include <chrono>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "analyzer/report/renderers.h"
#include "analyzer/symbolize/debuginfod.h"

namespace ollamatrace {

// Exit codes, also in the README.
inline constexpr int kExitFine = 0;
inline constexpr int kExitBroken = 1;  // a budget is
inline constexpr int kExitUsage = 2;
inline constexpr int kExitUnreadable = 3;

// Buffered. A reader that has seen enough (head) is no error: what follows is dropped. Ignores
// SIGPIPE from then on.
class StandardOutput {
 public:
  StandardOutput();
  void Write(absl::string_view text);
  // Writes what is left; says what went wrong, a full disk for example. Call once.
  absl::Status Finish();

 private:
  void Flush();
  std::string buffer_;
  int error_ = 0;
};

// For text on standard output: a terminal's width, and colours unless NO_COLOR (no-color.org) or
// TERM=dumb speak against them.
TextOptions TextOfTerminal();

// Tells how far a download is, as Progress does.
FetchProgress FetchProgressOnTerminal();

// "ollama-leakview: MESSAGE" as one line on standard error, whatever the message holds.
void PrintError(absl::string_view message);

// Tells on standard error how far long work is, when that is a terminal and the work takes its
// time; with `always` in any case, as a line at each tenth where it is no terminal.
class Progress {
 public:
  explicit Progress(bool always = false);
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;
  void Show(absl::string_view what, uint64_t done, uint64_t in_all);
  void Show(absl::string_view text);

 private:
  using Clock = std::chrono::steady_clock;
  void ShowLine(absl::string_view what, uint64_t done, uint64_t in_all);

  bool terminal_;
  bool always_;
  bool shown_ = false;
  std::string last_line_;
  Clock::time_point next_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_TERMINAL_H_
