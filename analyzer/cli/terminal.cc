#include "analyzer/cli/terminal.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace ollamatrace {
namespace {

// False when it could not be written; errno says why.
bool WriteAll(int fd, absl::string_view text) {
  while (!text.empty()) {
    const ssize_t written = write(fd, text.data(), text.size());
    if (written < 0) {
      if (errno == EINTR) continue;
      return false;
    }
    text.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

}  // namespace

StandardOutput::StandardOutput() { std::signal(SIGPIPE, SIG_IGN); }

void StandardOutput::Flush() {
  if (error_ == 0 && !WriteAll(STDOUT_FILENO, buffer_)) error_ = errno;
  buffer_.clear();
}

void StandardOutput::Write(absl::string_view text) {
  absl::StrAppend(&buffer_, text);
  if (buffer_.size() >= size_t{1} << 16) Flush();
}

absl::Status StandardOutput::Finish() {
  Flush();
  if (error_ == 0 || error_ == EPIPE) return absl::OkStatus();
  return absl::UnavailableError(absl::StrCat("standard output: ", strerror(error_)));
}

TextOptions TextOfTerminal() {
  TextOptions options;
  if (isatty(STDOUT_FILENO) == 0) return options;
  winsize size = {};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col != 0) {
    options.width = std::clamp<size_t>(size.ws_col, 80, 240);
  }
  const char* no_colour = getenv("NO_COLOR");
  const char* terminal = getenv("TERM");
  options.colour = (no_colour == nullptr || *no_colour == '\0') &&
                   (terminal == nullptr || absl::string_view(terminal) != "dumb");
  return options;
}

FetchProgress FetchProgressOnTerminal() {
  return [progress = std::make_shared<Progress>()](std::string_view what, uint64_t done,
                                                   uint64_t in_all) {
    progress->Show({what.data(), what.size()}, done, in_all);
  };
}

void PrintError(absl::string_view message) {
  std::string line = absl::StrCat("ollama-leakview: ", message);
  for (char& c : line) {
    if (static_cast<unsigned char>(c) < 0x20) c = ' ';
  }
  line.push_back('\n');
  (void)WriteAll(STDERR_FILENO, line);
}

Progress::Progress(bool always)
    : terminal_(isatty(STDERR_FILENO) == 1),
      always_(always),
      next_(Clock::now() + std::chrono::milliseconds(always ? 0 : 700)) {}

Progress::~Progress() {
  if (shown_) (void)WriteAll(STDERR_FILENO, "\r\x1b[K");
}

void Progress::ShowLine(absl::string_view what, uint64_t done, uint64_t in_all) {
  const uint64_t tenths = in_all == 0 ? 0 : std::min<uint64_t>(done, in_all) / (in_all / 10 + 1);
  std::string line = absl::StrCat("ollama-leakview: ", what, " ", tenths * 10, " %\n");
  if (line == last_line_) return;
  (void)WriteAll(STDERR_FILENO, line);
  last_line_ = std::move(line);
}

void Progress::Show(absl::string_view what, uint64_t done, uint64_t in_all) {
  if (!terminal_) {
    if (always_) ShowLine(what, done, in_all);
    return;
  }
  const double share =
      in_all == 0 ? 0 : 100.0 * static_cast<double>(done) / static_cast<double>(in_all);
  Show(absl::StrFormat("%s %.0f %%", what.substr(0, 60), share));
}

void Progress::Show(absl::string_view text) {
  if (!terminal_) return;
  const Clock::time_point now = Clock::now();
  if (now < next_) return;
  next_ = now + std::chrono::milliseconds(200);
  shown_ = true;
  (void)WriteAll(STDERR_FILENO, absl::StrCat("\r\x1b[K", text.substr(0, 100)));
}

}  // namespace ollamatrace
