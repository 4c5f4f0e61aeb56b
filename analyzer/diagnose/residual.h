// What a process uses on a device and no allocation tells of: what NVML says of the process less
// what was traced. Contexts, device code and executable graphs live there. It is no leak by itself;
// that it keeps growing may be one.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_RESIDUAL_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_RESIDUAL_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "absl/types/span.h"
#include "analyzer/diagnose/statistics.h"

namespace ollamatrace {

// One device at one sample. The counts are of what has happened so far.
struct ResidualPoint {
  uint64_t time_ns = 0;
  int64_t bytes = 0;  // the process's less the traced; below 0 where the trace knows of more
  uint64_t contexts = 0;
  uint64_t libraries = 0;  // of which an allocation was seen, like cuBLAS
  uint64_t modules = 0;
  uint64_t graphs = 0;  // executable ones that are live
};

// What came at the time when the residual changed, the first of these that did.
enum class ResidualStage : size_t { kContext, kLibrary, kModules, kGraphs, kOther };
inline constexpr size_t kResidualStages = 5;

struct Residual {
  int64_t first = 0;
  int64_t last = 0;
  // How much of `last` came with each stage; the first sample's is the context's. Their sum is
  // `last`. A stage's is what changed between two samples, or in the pauses before and after them,
  // as memory may be there a moment earlier or later than what is told of it.
  std::array<int64_t, kResidualStages> by_stage{};
  // Bytes an hour, after the first quarter of the samples, and without what came with the first use
  // of a library. Nothing for less than eight samples.
  std::optional<Slope> per_hour;
};

// `points` by time; at least one.
Residual CalibrateResidual(absl::Span<const ResidualPoint> points);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_RESIDUAL_H_
