// What a soak run does.
#ifndef OLLAMATRACE_ANALYZER_SOAK_PLAN_H_
#define OLLAMATRACE_ANALYZER_SOAK_PLAN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "analyzer/soak/api.h"
#include "analyzer/soak/prompts.h"

namespace ollamatrace {

enum class ServerKind {
  kOllama,       // one server, models come and go: load and unload by /api/generate
  kLlamaServer,  // the model lives as long as the server: unloading ends it
};
absl::Status ParseServerKind(absl::string_view text, ServerKind& kind);

struct SoakPhase {
  enum class Action { kLoad, kDrive, kIdle, kUnload };
  std::string name;
  Action action = Action::kDrive;
  // Of kDrive: until one of them is reached. Of kIdle, and after kUnload: how long to wait.
  std::optional<double> seconds;
  std::optional<uint64_t> requests;
  std::optional<uint64_t> workers;  // instead of the plan's
  std::optional<double> rate;
};
// What a phase of this name does: "load", "reload", "unload", "...idle..."; all else drives.
SoakPhase::Action ActionOf(absl::string_view name);

struct SoakPlan {
  ServerKind server = ServerKind::kOllama;
  std::string model;
  Api api = Api::kGenerate;
  bool stream = false;
  uint64_t workers = 2;
  std::optional<double>
      rate;  // requests a second, of all workers; nothing: as fast as answers come
  uint64_t tokens = 16;
  Prompts prompts;
  std::vector<SoakPhase> phases;
};

// load, warm-up, steady, idle, unload: the standard phases, over and over for `cycles`.
struct StandardPhases {
  double warm_up_seconds = 10;
  std::optional<double> steady_seconds;
  std::optional<uint64_t> steady_requests;  // neither: a minute
  double idle_seconds = 15;
  double settle_seconds = 5;  // after the unload
  uint64_t cycles = 1;
};
std::vector<SoakPhase> MakePhases(const StandardPhases& standard);

// Sets what the YAML `text` says, which has phases of its own or figures of the standard ones.
// InvalidArgument begins with `name` and the line.
absl::Status ReadPlan(const std::string& name, const std::string& text, SoakPlan& plan,
                      StandardPhases& standard);

// Lines of a file of prompts; InvalidArgument names the path.
absl::Status ReadPrompts(const std::string& path, Prompts& prompts);

// "2", "0.5", "30/min": a second. InvalidArgument otherwise.
absl::Status ParseRate(absl::string_view text, double& per_second);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_PLAN_H_
