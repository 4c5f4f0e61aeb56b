// Serves a watch's figures: /metrics, /healthz, /api/report. HTTP by cpp-httplib.
#ifndef OLLAMATRACE_ANALYZER_WATCH_WATCH_SERVER_H_
#define OLLAMATRACE_ANALYZER_WATCH_WATCH_SERVER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"

namespace ollamatrace {

// What is served; made by the watch after each look.
struct ServedState {
  std::string metrics;
  bool healthy = true;
  std::string health;  // one line, why not
};

// Thread-safe.
class WatchServer {
 public:
  // `report` makes /api/report, JSON; "" when it cannot. It is called by one thread at a time.
  explicit WatchServer(std::function<std::string()> report);
  ~WatchServer();  // stops

  // "127.0.0.1:9469"; port 0: any that is free. InvalidArgument or FailedPrecondition, one line:
  // no address, or in use.
  absl::Status Start(const std::string& address);
  int port() const;

  void Set(ServedState state);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_WATCH_SERVER_H_
