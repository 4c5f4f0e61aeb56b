// The server that a soak starts: its process and its output.
#ifndef OLLAMATRACE_ANALYZER_SOAK_SERVER_PROCESS_H_
#define OLLAMATRACE_ANALYZER_SOAK_SERVER_PROCESS_H_

#include <sys/types.h>

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"

namespace ollamatrace {

struct ServerCommand {
  std::string program;  // path
  std::vector<std::string> arguments;
  std::vector<std::pair<std::string, std::string>> environment;  // besides this process's own
  std::string log;                                               // its output is appended here
};

// Not thread-safe.
class ServerProcess {
 public:
  ServerProcess() = default;
  ~ServerProcess();  // kills it
  ServerProcess(const ServerProcess&) = delete;
  ServerProcess& operator=(const ServerProcess&) = delete;

  // The message names what cannot be run. It ends when the thread that called Start does (prctl(2),
  // PR_SET_PDEATHSIG).
  absl::Status Start(const ServerCommand& command);
  bool started() const { return pid_ > 0; }
  pid_t pid() const { return pid_; }

  // How it ended, "exit code 1" or "signal 11 (Segmentation fault)"; nothing while it runs.
  std::optional<std::string> Ended();
  // SIGTERM; SIGKILL when it has not ended after `seconds`. Returns how it ended.
  std::string Stop(double seconds);
  // SIGKILL, and waits. Returns how it ended.
  std::string Kill();

  // Of the log, since Start: the address after the last "listening on", without "http://"; empty
  // while it says none.
  std::string ListeningOn() const;
  // The last lines with text.
  std::vector<std::string> LastWords(size_t lines) const;

 private:
  std::string ReadLog(size_t most) const;

  pid_t pid_ = 0;
  std::optional<std::string> ended_;
  std::string log_;
  off_t log_begin_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_SERVER_PROCESS_H_
