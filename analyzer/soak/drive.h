// Sends requests: so many workers, at a rate or as fast as answers come.
#ifndef OLLAMATRACE_ANALYZER_SOAK_DRIVE_H_
#define OLLAMATRACE_ANALYZER_SOAK_DRIVE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "analyzer/soak/api.h"
#include "analyzer/soak/latency_histogram.h"
#include "analyzer/soak/marks_file.h"
#include "analyzer/soak/prompts.h"

namespace ollamatrace {

struct DriveOptions {
  std::string url;
  ApiRequest request;  // its prompt is set for each
  const Prompts* prompts = nullptr;
  uint64_t first_number = 0;  // of the first request
  uint64_t workers = 1;
  std::optional<double> rate;     // a second, of all workers
  std::optional<double> seconds;  // until one of these is reached
  std::optional<uint64_t> requests;
  double request_seconds = 120;  // how long an answer may take
  const MarksFile* marks = nullptr;
  // Asked often, by the calling thread: true ends the phase.
  std::function<bool()> stop = [] { return false; };
};

struct DriveResult {
  uint64_t sent = 0;
  uint64_t answered = 0;
  uint64_t failed = 0;
  uint64_t timed_out = 0;  // of those that failed
  uint64_t tokens = 0;
  double seconds = 0;
  // Of answered ones. At a rate they are counted from when they were due: what a slow server delays
  // counts.
  LatencyHistogram latencies;
  LatencyHistogram first_bytes;            // until the first piece, when it streams
  std::map<std::string, uint64_t> errors;  // by text; a bounded number of different ones
};

// Figures so far, for people.
using DriveProgress = std::function<void(const DriveResult& so_far)>;

// Returns when all workers have ended: the requests in flight are answered, or time out. Gives up
// when the first `kGiveUp` requests fail.
DriveResult Drive(const DriveOptions& options, const DriveProgress& progress);
inline constexpr uint64_t kGiveUp = 10;

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_DRIVE_H_
