#include "analyzer/gate/steady_load.h"

#include <algorithm>
#include <cstddef>

#include "absl/strings/str_cat.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

SteadyLoad FindInSession(const Report& report) {
  const ReportPhase* chosen = nullptr;
  size_t at = 0;
  for (size_t i = 0; i < report.phases.size(); ++i) {
    const ReportPhase& phase = report.phases[i];
    if (phase.requests == 0) continue;
    if (phase.kind != "load" && phase.kind != "reload" && phase.kind != "other") continue;
    if (chosen != nullptr && phase.requests <= chosen->requests) continue;
    chosen = &phase;
    at = i;
  }
  SteadyLoad load;
  if (chosen == nullptr) {
    load.begin = report.since.value_or(0);
    load.end = load.settled = report.until.value_or(report.duration);
    load.name = "the whole session";
    return load;
  }
  load.begin = chosen->begin;
  load.end = load.settled = chosen->end;
  load.name = absl::StrCat("phase ", chosen->name);
  for (size_t i = 0; i < at; ++i) load.warm = load.warm || report.phases[i].kind == "warm-up";
  for (size_t i = at + 1; i < report.phases.size() && report.phases[i].kind == "idle"; ++i) {
    load.settled = report.phases[i].end;
  }
  return load;
}

}  // namespace

SteadyLoad FindSteadyLoad(const Report& report) {
  SteadyLoad load = FindInSession(report);
  double begin = load.begin;
  for (const ReportProcess& process : report.processes) {
    if (process.complete_from > process.start) begin = std::max(begin, process.complete_from);
  }
  if (begin == load.begin) return load;
  load.begin = std::min(begin, load.end);
  load.warm = true;
  absl::StrAppend(&load.name, " from ", FormatSeconds(begin), " on");
  return load;
}

}  // namespace ollamatrace
