#include "analyzer/soak/server_process.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <thread>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"

extern char** environ;

namespace ollamatrace {
namespace {

constexpr size_t kLogTail = 64 << 10;

std::string HowItEnded(int status) {
  if (WIFEXITED(status)) return absl::StrCat("exit code ", WEXITSTATUS(status));
  if (WIFSIGNALED(status)) {
    return absl::StrCat("signal ", WTERMSIG(status), " (", strsignal(WTERMSIG(status)), ")");
  }
  return "unknown";
}

std::vector<std::string> Environment(const ServerCommand& command) {
  std::vector<std::string> environment;
  for (char** one = environ; *one != nullptr; ++one) {
    const absl::string_view text(*one);
    const absl::string_view name = text.substr(0, text.find('='));
    const bool replaced = std::any_of(command.environment.begin(), command.environment.end(),
                                      [&](const auto& setting) { return setting.first == name; });
    if (!replaced) environment.emplace_back(text);
  }
  for (const auto& [name, value] : command.environment) {
    environment.push_back(absl::StrCat(name, "=", value));
  }
  return environment;
}

std::vector<char*> Pointers(std::vector<std::string>& texts) {
  std::vector<char*> pointers;
  for (std::string& text : texts) pointers.push_back(text.data());
  pointers.push_back(nullptr);
  return pointers;
}

}  // namespace

ServerProcess::~ServerProcess() { Kill(); }

absl::Status ServerProcess::Start(const ServerCommand& command) {
  std::vector<std::string> arguments = command.arguments;
  arguments.insert(arguments.begin(), command.program);
  std::vector<std::string> environment = Environment(command);
  const std::vector<char*> argv = Pointers(arguments), envp = Pointers(environment);
  const int log = open(command.log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  if (log < 0) {
    return absl::UnavailableError(
        absl::StrCat(command.log, ": cannot be written: ", strerror(errno)));
  }
  struct stat info;
  log_ = command.log;
  log_begin_ = fstat(log, &info) == 0 ? info.st_size : 0;
  ended_.reset();
  const int input = open("/dev/null", O_RDONLY | O_CLOEXEC);
  int failure[2];  // the errno of an exec that failed
  if (pipe2(failure, O_CLOEXEC) != 0) {
    close(log);
    close(input);
    return absl::UnavailableError(absl::StrCat("pipe: ", strerror(errno)));
  }
  const pid_t parent = getpid();
  const pid_t pid = fork();
  if (pid == 0) {
    // Only what is async-signal-safe: there may be threads.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) _exit(127);
    signal(SIGPIPE, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    setpgid(0, 0);  // Ctrl-C is for the soak, which then stops the server
    dup2(input, STDIN_FILENO);
    dup2(log, STDOUT_FILENO);
    dup2(log, STDERR_FILENO);
    execve(argv[0], argv.data(), envp.data());
    const int error = errno;
    [[maybe_unused]] const ssize_t written = write(failure[1], &error, sizeof(error));
    _exit(127);
  }
  const int fork_error = errno;
  close(log);
  close(input);
  close(failure[1]);
  int error = 0;
  ssize_t got = 0;
  if (pid > 0) {
    do {
      got = read(failure[0], &error, sizeof(error));
    } while (got < 0 && errno == EINTR);
  }
  close(failure[0]);
  if (pid < 0) return absl::UnavailableError(absl::StrCat("fork: ", strerror(fork_error)));
  pid_ = pid;
  if (got == sizeof(error)) {
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = 0;
    return absl::NotFoundError(absl::StrCat(command.program, ": ", strerror(error)));
  }
  return absl::OkStatus();
}

std::optional<std::string> ServerProcess::Ended() {
  if (pid_ <= 0 || ended_) return ended_;
  int status = 0;
  if (waitpid(pid_, &status, WNOHANG) == pid_) ended_ = HowItEnded(status);
  return ended_;
}

std::string ServerProcess::Stop(double seconds) {
  if (pid_ <= 0) return "not started";
  if (!Ended()) kill(pid_, SIGTERM);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::duration<double>(seconds);
  while (!Ended() && std::chrono::steady_clock::now() < deadline) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  if (!Ended()) return absl::StrCat(Kill(), ", as it did not end on SIGTERM");
  return Kill();
}

std::string ServerProcess::Kill() {
  if (pid_ <= 0) return "not started";
  if (!Ended()) {
    kill(pid_, SIGKILL);
    int status = 0;
    while (waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    ended_ = HowItEnded(status);
  }
  pid_ = 0;
  return *ended_;
}

std::string ServerProcess::ReadLog(size_t most) const {
  const int file = open(log_.c_str(), O_RDONLY | O_CLOEXEC);
  if (file < 0) return "";
  struct stat info;
  std::string text;
  if (fstat(file, &info) == 0) {
    const off_t begin = std::max<off_t>(log_begin_, info.st_size - static_cast<off_t>(most));
    text.resize(static_cast<size_t>(std::max<off_t>(0, info.st_size - begin)));
    const ssize_t got = pread(file, text.data(), text.size(), begin);
    text.resize(got < 0 ? 0 : static_cast<size_t>(got));
  }
  close(file);
  return text;
}

std::string ServerProcess::ListeningOn() const {
  std::string address;
  const std::string log = ReadLog(kLogTail);
  const size_t whole = log.rfind('\n');
  if (whole == std::string::npos) return "";
  for (absl::string_view line : absl::StrSplit(absl::string_view(log).substr(0, whole), '\n')) {
    size_t at = line.find("istening on ");
    if (at == absl::string_view::npos) continue;
    absl::string_view rest = line.substr(at + strlen("istening on "));
    absl::ConsumePrefix(&rest, "http://");
    const size_t end = rest.find_first_of(" \t\r\",)");
    rest = rest.substr(0, end);
    while (absl::ConsumeSuffix(&rest, "/")) {
    }
    // HOST:PORT; a server may say "listening on port" of something else.
    const size_t colon = rest.rfind(':');
    if (colon == absl::string_view::npos || colon + 1 == rest.size()) continue;
    if (rest.substr(colon + 1).find_first_not_of("0123456789") != absl::string_view::npos) continue;
    address = std::string(rest);
  }
  return address;
}

std::vector<std::string> ServerProcess::LastWords(size_t lines) const {
  std::vector<std::string> words;
  for (absl::string_view line : absl::StrSplit(ReadLog(kLogTail), '\n')) {
    line = absl::StripAsciiWhitespace(line);
    if (line.empty()) continue;
    std::string clean(line.substr(0, 200));
    for (char& c : clean) {
      if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    words.push_back(std::move(clean));
  }
  if (words.size() > lines)
    words.erase(words.begin(), words.end() - static_cast<std::ptrdiff_t>(lines));
  return words;
}

}  // namespace ollamatrace
