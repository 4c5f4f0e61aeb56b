#include "examples/leaky_server/runner.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "examples/leaky_server/http.h"

namespace leaky {
namespace {

// The child's first line, "listening on 127.0.0.1:PORT"; 0 when it ended without one.
int ReadPort(int fd) {
  std::string line;
  char c;
  for (;;) {
    const ssize_t got = read(fd, &c, 1);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0 || c == '\n') break;
    line += c;
  }
  const size_t colon = line.rfind(':');
  return colon == std::string::npos ? 0 : atoi(line.c_str() + colon + 1);
}

}  // namespace

bool Runner::Start(std::string* error) {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) {
    *error = std::string("pipe: ") + strerror(errno);
    return false;
  }
  char runner_flag[] = "--runner";
  char port_flag[] = "--port=0";
  char* const argv[] = {const_cast<char*>(program_.c_str()), runner_flag, port_flag, nullptr};
  const pid_t child = fork();
  if (child == 0) {
    // Only what is async-signal-safe: this is the copy of a process with many threads.
    dup2(ends[1], STDOUT_FILENO);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, nullptr);
    prctl(PR_SET_PDEATHSIG, SIGKILL);  // an example leaves no orphans behind
    execv(program_.c_str(), argv);
    _exit(127);
  }
  const int failure = errno;
  close(ends[1]);
  const int port = child > 0 ? ReadPort(ends[0]) : 0;
  close(ends[0]);
  if (child > 0 && port == 0) {
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
  if (port == 0) {
    *error = child < 0 ? std::string("fork: ") + strerror(failure) : "the runner did not start";
    return false;
  }
  pid_ = child;
  port_ = port;
  return true;
}

bool Runner::Generate(std::string_view body, std::string* answer, std::string* error) {
  int port;
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (pid_ == 0 && !Start(error)) return false;
    port = port_;
  }
  if (HttpPost(port, "/completion", body, answer)) return true;
  *error = "the runner did not answer";
  return false;
}

void Runner::Kill() {
  const std::lock_guard<std::mutex> lock(mutex_);
  if (pid_ == 0) return;
  kill(pid_, SIGKILL);
  waitpid(pid_, nullptr, 0);
  pid_ = 0;
}

pid_t Runner::pid() {
  const std::lock_guard<std::mutex> lock(mutex_);
  return pid_;
}

}  // namespace leaky
