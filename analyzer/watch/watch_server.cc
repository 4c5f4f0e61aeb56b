#include "analyzer/watch/watch_server.h"

#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "httplib.h"

namespace ollamatrace {
namespace {

using Clock = std::chrono::steady_clock;

// A report takes a process of its own: not more often than this.
constexpr std::chrono::seconds kReportAge(10);
constexpr size_t kThreads = 3;

}  // namespace

struct WatchServer::State {
  httplib::Server server;
  std::thread thread;
  int port = 0;
  std::function<std::string()> make_report;

  std::mutex mutex;
  ServedState served;

  std::mutex report_mutex;
  std::string report;
  Clock::time_point reported = {};
};

WatchServer::WatchServer(std::function<std::string()> report) : state_(std::make_unique<State>()) {
  State& state = *state_;
  state.make_report = std::move(report);
  state.server.new_task_queue = [] { return new httplib::ThreadPool(kThreads); };
  state.server.set_payload_max_length(1 << 16);
  state.server.set_keep_alive_timeout(5);
  state.server.Get("/metrics", [&state](const httplib::Request&, httplib::Response& response) {
    const std::lock_guard<std::mutex> lock(state.mutex);
    response.set_content(state.served.metrics, "text/plain; version=0.0.4; charset=utf-8");
  });
  state.server.Get("/healthz", [&state](const httplib::Request&, httplib::Response& response) {
    const std::lock_guard<std::mutex> lock(state.mutex);
    response.status = state.served.healthy ? 200 : 503;
    response.set_content(state.served.health + "\n", "text/plain");
  });
  state.server.Get("/api/report", [&state](const httplib::Request&, httplib::Response& response) {
    const std::lock_guard<std::mutex> lock(state.report_mutex);
    if (state.report.empty() || Clock::now() - state.reported > kReportAge) {
      state.report = state.make_report();
      state.reported = Clock::now();
    }
    if (state.report.empty()) response.status = 503;
    response.set_content(
        state.report.empty() ? "{\"error\": \"no report could be made\"}\n" : state.report,
        "application/json");
  });
  state.server.Get("/", [](const httplib::Request&, httplib::Response& response) {
    response.set_content("/metrics\n/healthz\n/api/report\n", "text/plain");
  });
}

WatchServer::~WatchServer() {
  state_->server.stop();
  if (state_->thread.joinable()) state_->thread.join();
}

absl::Status WatchServer::Start(const std::string& address) {
  const size_t colon = address.rfind(':');
  uint32_t port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat(address, ": no address; give HOST:PORT, like 127.0.0.1:9469"));
  }
  std::string host = address.substr(0, colon);
  if (host.size() > 2 && host.front() == '[' && host.back() == ']') {  // of IPv6
    host = host.substr(1, host.size() - 2);
  }
  State& state = *state_;
  // httplib sets SO_REUSEPORT, by which two watches would share one port.
  state.server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  if (port == 0) {
    state.port = state.server.bind_to_any_port(host.c_str());
  } else if (state.server.bind_to_port(host.c_str(), static_cast<int>(port))) {
    state.port = static_cast<int>(port);
  } else {
    state.port = -1;
  }
  if (state.port <= 0) {
    return absl::FailedPreconditionError(
        absl::StrCat(address, ": cannot listen there: in use, or no address of this machine"));
  }
  state.thread = std::thread([&state] { state.server.listen_after_bind(); });
  return absl::OkStatus();
}

int WatchServer::port() const { return state_->port; }

void WatchServer::Set(ServedState served) {
  const std::lock_guard<std::mutex> lock(state_->mutex);
  state_->served = std::move(served);
}

}  // namespace ollamatrace
