// Drives a server through the phases of a plan and marks them in its session.
#ifndef OLLAMATRACE_ANALYZER_SOAK_SOAK_H_
#define OLLAMATRACE_ANALYZER_SOAK_SOAK_H_

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "analyzer/soak/drive.h"
#include "analyzer/soak/plan.h"
#include "analyzer/soak/target_server.h"

namespace ollamatrace {

struct SoakOptions {
  SoakPlan plan;
  TargetOptions target;  // its kind, model and api are the plan's
  std::string session;   // the folder of the traces and of marks.jsonl
  double request_seconds = 120;
  double most_errors = 0.01;  // share of requests that may fail
  std::function<bool()> interrupted = [] { return false; };
};

struct SoakPhaseResult {
  SoakPhase phase;
  double seconds = 0;
  DriveResult drive;  // of phases that send requests
};

struct SoakResult {
  enum class Outcome {
    kDone,
    kServerDied,
    kServerHung,  // a request got no answer in time, and the server does not answer either
    kErrors,      // more answers were errors than may be
    kFailed,      // loading or unloading went wrong
    kInterrupted,
  };
  Outcome outcome = Outcome::kDone;
  std::string evidence;  // one line: what happened, when, and what the server said; empty of kDone
  std::string url;
  std::string log;         // the server's output; empty of another's server
  std::string server_end;  // how it ended, when it was started here
  std::vector<SoakPhaseResult> phases;
};
const char* SoakOutcomeName(SoakResult::Outcome outcome);  // "done", "server-died", ...

// A line for people, now and then: "steady: 341 requests, ...".
using SoakProgress = std::function<void(const std::string&)>;

// An error: the soak could not begin (unreachable server, port in use, no such model), in one line.
// All that happens later is a result.
absl::StatusOr<SoakResult> RunSoak(const SoakOptions& options, const SoakProgress& progress);

// For people: a table of phases with latencies, and the outcome.
std::string SoakAsText(const SoakResult& result);
// Schema "ollama-leakview/soak/1".
std::string SoakAsJson(const SoakResult& result);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_SOAK_H_
