// The child process that holds the "model", as Ollama's llama-server does.
#ifndef OLLAMATRACE_EXAMPLES_LEAKY_SERVER_RUNNER_H_
#define OLLAMATRACE_EXAMPLES_LEAKY_SERVER_RUNNER_H_

#include <sys/types.h>

#include <mutex>
#include <string>
#include <string_view>

namespace leaky {

// The server's side: starts the child when it is first needed and ends it with SIGKILL, as Ollama
// does at an unload. Thread safe.
class Runner {
 public:
  explicit Runner(std::string program) : program_(std::move(program)) {}
  ~Runner() { Kill(); }
  Runner(const Runner&) = delete;
  Runner& operator=(const Runner&) = delete;

  // Sends a request's body on to the child; false with a reason when it does not answer.
  bool Generate(std::string_view body, std::string* answer, std::string* error);
  void Kill();
  // 0 when there is none.
  pid_t pid();

 private:
  bool Start(std::string* error);

  const std::string program_;
  std::mutex mutex_;
  pid_t pid_ = 0;
  int port_ = 0;
};

}  // namespace leaky

#endif  // OLLAMATRACE_EXAMPLES_LEAKY_SERVER_RUNNER_H_
