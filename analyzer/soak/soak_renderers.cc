#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/soak/soak.h"
#include "analyzer/text/units.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::pair<const char*, double> kPercentiles[] = {
    {"p50", 0.5}, {"p90", 0.9}, {"p95", 0.95}, {"p99", 0.99}, {"max", 1}};

double Millis(double seconds) { return std::round(seconds * 1e5) / 100; }

Json Latencies(const LatencyHistogram& latencies) {
  if (latencies.count() == 0) return nullptr;
  Json json = Json::object();
  for (const auto& [name, share] : kPercentiles) {
    json[name] = Millis(share == 1 ? latencies.greatest() : latencies.Percentile(share));
  }
  return json;
}

}  // namespace

std::string SoakAsText(const SoakResult& result) {
  std::string text = absl::StrCat(
      result.outcome == SoakResult::Outcome::kDone
          ? absl::StrCat("soak: done (", result.url, ")")
          : absl::StrCat("soak: ", SoakOutcomeName(result.outcome), " ", result.evidence),
      "\n\n");
  absl::StrAppendFormat(&text, "  %-14s %11s %9s %7s %8s %9s %8s %8s %8s\n", "phase", "time",
                        "requests", "failed", "by s", "tokens/s", "p50 ms", "p95 ms", "p99 ms");
  for (const SoakPhaseResult& one : result.phases) {
    absl::StrAppendFormat(&text, "  %-14s %11s", one.phase.name, FormatSeconds(one.seconds));
    if (one.phase.action == SoakPhase::Action::kDrive) {
      const DriveResult& drive = one.drive;
      const double seconds = std::max(drive.seconds, 1e-9);
      absl::StrAppendFormat(
          &text, " %9d %7d %8.1f %9.1f %8.1f %8.1f %8.1f", drive.sent, drive.failed,
          static_cast<double>(drive.sent) / seconds, static_cast<double>(drive.tokens) / seconds,
          drive.latencies.Percentile(0.5) * 1e3, drive.latencies.Percentile(0.95) * 1e3,
          drive.latencies.Percentile(0.99) * 1e3);
    }
    text.push_back('\n');
    for (const auto& [error, count] : one.drive.errors) {
      absl::StrAppend(&text, "    ", count, " times: ", error, "\n");
    }
  }
  if (!result.log.empty()) absl::StrAppend(&text, "\nthe server's output: ", result.log, "\n");
  return text;
}

std::string SoakAsJson(const SoakResult& result) {
  Json phases = Json::array();
  for (const SoakPhaseResult& one : result.phases) {
    Json json = {{"name", one.phase.name}, {"seconds", std::round(one.seconds * 1e3) / 1e3}};
    if (one.phase.action == SoakPhase::Action::kDrive) {
      json["requests"] = one.drive.sent;
      json["answered"] = one.drive.answered;
      json["failed"] = one.drive.failed;
      json["timed_out"] = one.drive.timed_out;
      json["tokens"] = one.drive.tokens;
      json["latency_ms"] = Latencies(one.drive.latencies);
      json["first_byte_ms"] = Latencies(one.drive.first_bytes);
      json["errors"] = one.drive.errors;
    }
    phases.push_back(json);
  }
  const auto or_null = [](const std::string& text) {
    return text.empty() ? Json(nullptr) : Json(text);
  };
  const Json json = {{"schema", "ollama-leakview/soak/1"},
                     {"outcome", SoakOutcomeName(result.outcome)},
                     {"evidence", or_null(result.evidence)},
                     {"url", or_null(result.url)},
                     {"log", or_null(result.log)},
                     {"server_end", or_null(result.server_end)},
                     {"phases", phases}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ollamatrace
