#include "analyzer/diagnose/phases.h"

#include <algorithm>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"

namespace ollamatrace {
namespace {

PhaseKind KindOf(const std::string& name) {
  const std::string lower = absl::AsciiStrToLower(name);
  if (absl::StrContains(lower, "unload")) return PhaseKind::kUnload;
  if (absl::StrContains(lower, "reload")) return PhaseKind::kReload;
  if (absl::StrContains(lower, "warm")) return PhaseKind::kWarmUp;
  if (absl::StrContains(lower, "load")) return PhaseKind::kLoad;
  if (absl::StrContains(lower, "idle")) return PhaseKind::kIdle;
  if (lower == "end") return PhaseKind::kEnd;
  return PhaseKind::kOther;
}

}  // namespace

std::vector<Phase> PhasesOf(const SessionHistory& session) {
  const auto seconds = [&](uint64_t time_ns) {
    return (static_cast<double>(time_ns) - static_cast<double>(session.start_ns)) / 1e9;
  };
  std::vector<Phase> phases;
  uint64_t last_ns = session.start_ns;
  for (const ProcessHistory& process : session.processes) {
    last_ns = std::max(last_ns, process.end_ns);
  }
  for (const Mark& mark : session.marks) {
    if (mark.name == kRequestMark && !phases.empty()) ++phases.back().requests;
    if (mark.name != kPhaseMark) continue;
    if (!phases.empty()) phases.back().end = seconds(mark.time_ns);
    phases.push_back({mark.label, KindOf(mark.label), seconds(mark.time_ns), 0, 0});
  }
  if (!phases.empty()) phases.back().end = std::max(phases.back().begin, seconds(last_ns));
  return phases;
}

std::vector<Unload> UnloadsOf(const std::vector<Phase>& phases) {
  std::vector<Unload> unloads;
  bool loaded = false;
  Unload current;
  for (size_t i = 0; i < phases.size(); ++i) {
    const Phase& phase = phases[i];
    if (phase.kind == PhaseKind::kUnload) {
      if (!loaded) current.loaded = phase.begin;
      current.unload = phase.begin;
      current.settled = phase.end;
      unloads.push_back(current);
      loaded = false;
      current = {};
      continue;
    }
    if (phase.kind == PhaseKind::kEnd || phase.kind == PhaseKind::kIdle) continue;
    if (!loaded) {
      loaded = true;
      current.loaded = phase.begin;
      const bool load = phase.kind == PhaseKind::kLoad || phase.kind == PhaseKind::kReload;
      // A "load" in which requests are answered is a load on the server.
      current.load_alone = load && phase.requests == 0 && i + 1 < phases.size();
      current.load_end = phase.end;
    }
  }
  return unloads;
}

}  // namespace ollamatrace
