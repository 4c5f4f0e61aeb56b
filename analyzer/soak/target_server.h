// A server as a soak sees it: where it answers, how it is started, how its model comes and goes.
#ifndef OLLAMATRACE_ANALYZER_SOAK_TARGET_SERVER_H_
#define OLLAMATRACE_ANALYZER_SOAK_TARGET_SERVER_H_

#include <functional>
#include <string>

#include "absl/status/status.h"
#include "analyzer/soak/http_client.h"
#include "analyzer/soak/plan.h"
#include "analyzer/soak/server_process.h"

namespace ollamatrace {

struct TargetOptions {
  ServerKind kind = ServerKind::kOllama;
  std::string model;
  Api api = Api::kGenerate;
  std::string url;        // of a server that runs already; empty: `command` is started
  ServerCommand command;  // without the port, which is added as the kind of server takes it
  uint16_t port = 0;      // of the started server; 0: any that is free
  double ready_seconds = 120;
  double stop_seconds = 60;
  // Asked while something is waited for: true ends the wait.
  std::function<bool()> interrupted = [] { return false; };
};

// Errors are one line each. Not thread-safe.
class TargetServer {
 public:
  explicit TargetServer(TargetOptions options) : options_(std::move(options)) {}

  // Starts the server, unless it runs already, and waits until it answers.
  absl::Status Start();
  // Makes it load the model: of llama-server, starts it again when it was ended.
  absl::Status Load();
  // Until the model has gone: of llama-server, ends the server.
  absl::Status Unload();
  // Ends the server if it was started here: llama-server by SIGKILL, as Ollama does. Returns how it
  // ended; "" for another's, or when it had been ended before.
  std::string Stop();

  const std::string& url() const { return url_; }
  bool ours() const { return options_.url.empty(); }
  ServerProcess& process() { return process_; }
  // Whether it answers within `seconds`.
  bool Answers(double seconds);
  // Whether an unload ended it.
  bool unloaded_by_ending() const { return unloaded_by_ending_; }

 private:
  absl::Status StartProcess();
  absl::Status WaitUntilReady();
  absl::Status LoadModel();
  std::string ReadyPath() const;

  TargetOptions options_;
  std::string url_;
  ServerProcess process_;
  HttpClient client_;
  bool unloaded_by_ending_ = false;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_TARGET_SERVER_H_
