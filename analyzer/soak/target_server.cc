#include "analyzer/soak/target_server.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Clock = std::chrono::steady_clock;

constexpr size_t kLastWords = 3;

Clock::time_point In(double seconds) {
  return Clock::now() +
         std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

// A loopback port that is free, `wanted` unless that is 0. Somebody else may take it before it is
// used.
absl::StatusOr<uint16_t> FreePort(uint16_t wanted) {
  const int probe = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (probe < 0) return absl::UnavailableError(absl::StrCat("socket: ", strerror(errno)));
  const int yes = 1;  // as servers do: what lingers from the last run is no obstacle
  setsockopt(probe, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  sockaddr_in address = {};
  address.sin_family = AF_INET;
  address.sin_port = htons(wanted);
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  const bool bound = bind(probe, reinterpret_cast<const sockaddr*>(&address), size) == 0 &&
                     listen(probe, 1) == 0 &&
                     getsockname(probe, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  const int error = errno;
  close(probe);
  if (bound) return ntohs(address.sin_port);
  if (error == EADDRINUSE) {
    return absl::FailedPreconditionError(
        absl::StrCat("port ", wanted,
                     " is in use: another server listens there; end it, or give another --port"));
  }
  return absl::UnavailableError(absl::StrCat("port ", wanted, ": ", strerror(error)));
}

}  // namespace

std::string TargetServer::ReadyPath() const {
  return options_.kind == ServerKind::kOllama ? "/api/version" : "/health";
}

bool TargetServer::Answers(double seconds) {
  return client_.Get(url_ + ReadyPath(), seconds).status == 200;
}

absl::Status TargetServer::Start() {
  if (ours()) return StartProcess();
  url_ = options_.url;
  while (absl::EndsWith(url_, "/")) url_.pop_back();
  if (!absl::StrContains(url_, "://")) url_ = "http://" + url_;
  const HttpAnswer answer = client_.Get(url_ + ReadyPath(), 10);
  if (answer.status == 0) {
    return absl::UnavailableError(
        absl::StrCat(url_, ": unreachable (", answer.error, "); does the server run there?"));
  }
  if (answer.status == 503) return WaitUntilReady();
  if (answer.status != 200) {
    return absl::FailedPreconditionError(
        absl::StrCat(url_, ReadyPath(), ": HTTP ", answer.status, "; is it ",
                     options_.kind == ServerKind::kOllama ? "an Ollama server" : "a llama-server",
                     " (--server)?"));
  }
  return absl::OkStatus();
}

absl::Status TargetServer::StartProcess() {
  const absl::StatusOr<uint16_t> port = FreePort(options_.port);
  if (!port.ok()) return port.status();
  ServerCommand command = options_.command;
  const std::string address = absl::StrCat("127.0.0.1:", *port);
  if (options_.kind == ServerKind::kOllama) {
    command.environment.emplace_back("OLLAMA_HOST", address);
  } else {
    command.arguments.insert(command.arguments.end(),
                             {"--host", "127.0.0.1", "--port", absl::StrCat(*port)});
  }
  url_ = "http://" + address;
  if (absl::Status status = process_.Start(command); !status.ok()) return status;
  return WaitUntilReady();
}

absl::Status TargetServer::WaitUntilReady() {
  const Clock::time_point deadline = In(options_.ready_seconds);
  for (;;) {
    if (ours()) {
      if (const auto ended = process_.Ended()) {
        return absl::UnavailableError(absl::StrCat(
            options_.command.program, ": ended before it answered, ", *ended, "; its last words: ",
            absl::StrJoin(process_.LastWords(kLastWords), " | "), " (", options_.command.log, ")"));
      }
      // It may listen elsewhere than it was told, and says so.
      const std::string address = process_.ListeningOn();
      if (!address.empty() && !absl::StartsWith(address, "0.0.0.0") &&
          !absl::StartsWith(address, "[::]")) {
        url_ = "http://" + address;
      }
    }
    if (Answers(2)) return absl::OkStatus();
    if (options_.interrupted()) return absl::CancelledError("interrupted");
    if (Clock::now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(
          url_, ": no answer within ", options_.ready_seconds, " s (--ready-timeout)"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

absl::Status TargetServer::Load() {
  if (unloaded_by_ending_) {
    unloaded_by_ending_ = false;
    if (absl::Status status = StartProcess(); !status.ok()) return status;
  }
  // A llama-server that answers has loaded its model.
  return options_.kind == ServerKind::kOllama ? LoadModel() : absl::OkStatus();
}

absl::Status TargetServer::LoadModel() {
  ApiRequest request;
  request.api = options_.api == Api::kEmbed ? Api::kEmbed : Api::kGenerate;
  request.model = options_.model;  // an empty prompt loads and does no more
  const HttpAnswer answer =
      client_.Post(url_ + ApiPath(request.api), RequestBody(request), options_.ready_seconds);
  if (answer.status == 0) {
    return absl::UnavailableError(
        absl::StrCat(url_, ": loading ", options_.model, " failed: ", answer.error));
  }
  if (answer.status != 200) {
    return absl::NotFoundError(absl::StrCat(url_, ": cannot load model \"", options_.model,
                                            "\": HTTP ", answer.status, ", ",
                                            ErrorText(answer.body)));
  }
  return absl::OkStatus();
}

absl::Status TargetServer::Unload() {
  if (options_.kind == ServerKind::kLlamaServer) {
    unloaded_by_ending_ = true;
    // As Ollama does it. What a server frees while it exits would be missing in the report.
    process_.Kill();
    return absl::OkStatus();
  }
  const nlohmann::json body = {{"model", options_.model}, {"keep_alive", 0}, {"stream", false}};
  const HttpAnswer answer = client_.Post(
      url_ + "/api/generate", body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
      options_.ready_seconds);
  if (answer.status != 200) {
    return absl::UnavailableError(
        absl::StrCat(url_, ": cannot unload ", options_.model, ": ",
                     answer.status == 0 ? answer.error : ErrorText(answer.body)));
  }
  // It goes a moment later. What has no such list has unloaded when it answers.
  const Clock::time_point deadline = In(options_.stop_seconds);
  while (!options_.interrupted()) {
    const HttpAnswer list = client_.Get(url_ + "/api/ps", 10);
    const nlohmann::json json = nlohmann::json::parse(list.body, nullptr, false);
    if (list.status != 200 || !json.is_object() || !json.contains("models")) break;
    if (!json["models"].is_array() || json["models"].empty()) break;
    if (Clock::now() > deadline) {
      return absl::DeadlineExceededError(absl::StrCat(url_, ": ", options_.model,
                                                      " is still loaded ", options_.stop_seconds,
                                                      " s after it was to be unloaded"));
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return absl::OkStatus();
}

std::string TargetServer::Stop() {
  if (!ours() || !process_.started()) return "";
  return options_.kind == ServerKind::kLlamaServer ? process_.Kill()
                                                   : process_.Stop(options_.stop_seconds);
}

}  // namespace ollamatrace
