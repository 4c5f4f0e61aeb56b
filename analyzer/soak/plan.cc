#include "analyzer/soak/plan.h"

#include <cerrno>
#include <cstring>
#include <fstream>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"

namespace ollamatrace {

absl::Status ParseServerKind(absl::string_view text, ServerKind& kind) {
  if (text == "ollama") {
    kind = ServerKind::kOllama;
  } else if (text == "llama-server") {
    kind = ServerKind::kLlamaServer;
  } else {
    return absl::InvalidArgumentError("not known; give ollama or llama-server");
  }
  return absl::OkStatus();
}

SoakPhase::Action ActionOf(absl::string_view name) {
  const std::string lower = absl::AsciiStrToLower(name);
  if (absl::StrContains(lower, "unload")) return SoakPhase::Action::kUnload;
  if (lower == "load" || absl::StrContains(lower, "reload")) return SoakPhase::Action::kLoad;
  if (absl::StrContains(lower, "idle")) return SoakPhase::Action::kIdle;
  return SoakPhase::Action::kDrive;
}

std::vector<SoakPhase> MakePhases(const StandardPhases& standard) {
  std::vector<SoakPhase> phases;
  const auto add = [&](const char* name, std::optional<double> seconds,
                       std::optional<uint64_t> requests = std::nullopt) {
    phases.push_back({name, ActionOf(name), seconds, requests, std::nullopt, std::nullopt});
  };
  for (uint64_t cycle = 0; cycle < standard.cycles; ++cycle) {
    add(cycle == 0 ? "load" : "reload", std::nullopt);
    if (standard.warm_up_seconds > 0) add("warm-up", standard.warm_up_seconds);
    std::optional<double> seconds = standard.steady_seconds;
    if (!seconds && !standard.steady_requests) seconds = 60;
    add("steady", seconds, standard.steady_requests);
    if (standard.idle_seconds > 0) add("idle", standard.idle_seconds);
    add("unload", standard.settle_seconds);
  }
  return phases;
}

absl::Status ReadPrompts(const std::string& path, Prompts& prompts) {
  std::ifstream file(path);
  if (!file) return absl::InvalidArgumentError(absl::StrCat(path, ": ", strerror(errno)));
  std::vector<std::string> lines;
  for (std::string line; std::getline(file, line);) {
    absl::StripAsciiWhitespace(&line);
    if (!line.empty()) lines.push_back(line);
  }
  if (lines.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": no prompts, one a line"));
  }
  prompts.kind = PromptKind::kFile;
  prompts.lines = std::move(lines);
  return absl::OkStatus();
}

absl::Status ParseRate(absl::string_view text, double& per_second) {
  double unit = 1;
  if (absl::ConsumeSuffix(&text, "/min")) {
    unit = 1.0 / 60;
  } else {
    absl::ConsumeSuffix(&text, "/s");
  }
  double value = 0;
  if (!absl::SimpleAtod(text, &value) || !(value > 0) || value > 1e6) {
    return absl::InvalidArgumentError("not a rate; give requests a second, or 30/min");
  }
  per_second = value * unit;
  return absl::OkStatus();
}

}  // namespace ollamatrace
