#include "analyzer/diagnose/residual.h"

#include <algorithm>
#include <vector>

namespace ollamatrace {
namespace {

constexpr size_t kLeastPoints = 8;
constexpr size_t kMostPoints = 100;  // of a slope, which takes the square of their number
constexpr double kNsPerHour = 3.6e12;

using Count = uint64_t ResidualPoint::*;
constexpr Count kCounts[] = {&ResidualPoint::contexts, &ResidualPoint::libraries,
                             &ResidualPoint::modules, &ResidualPoint::graphs};

// Whether it happened between the samples before and after those around `pause`, the one that ends
// with the sample of that index.
bool HappenedAround(absl::Span<const ResidualPoint> points, size_t pause, Count count) {
  const size_t before = pause < 2 ? 0 : pause - 2;
  const size_t after = std::min(pause + 1, points.size() - 1);
  // What was there at the first sample happened before it.
  if (pause == 1 && count == &ResidualPoint::contexts) return true;
  return points[before].*count != points[after].*count;
}

ResidualStage StageOf(absl::Span<const ResidualPoint> points, size_t pause) {
  for (size_t stage = 0; stage < std::size(kCounts); ++stage) {
    if (HappenedAround(points, pause, kCounts[stage])) return static_cast<ResidualStage>(stage);
  }
  return ResidualStage::kOther;
}

}  // namespace

Residual CalibrateResidual(absl::Span<const ResidualPoint> points) {
  Residual residual;
  residual.first = points.front().bytes;
  residual.last = points.back().bytes;
  const auto of = [&](ResidualStage stage) -> int64_t& {
    return residual.by_stage[static_cast<size_t>(stage)];
  };
  of(ResidualStage::kContext) = residual.first;
  std::vector<double> lasting(points.size());  // without what comes once
  double once = 0;
  for (size_t i = 0; i < points.size(); ++i) {
    if (i > 0) {
      const int64_t change = points[i].bytes - points[i - 1].bytes;
      const ResidualStage stage = StageOf(points, i);
      if (change != 0) of(stage) += change;
      if (stage == ResidualStage::kLibrary) once += static_cast<double>(change);
    }
    lasting[i] = static_cast<double>(points[i].bytes) - once;
  }
  if (points.size() < kLeastPoints) return residual;
  const size_t from = points.size() / 4;
  const size_t step = (points.size() - from + kMostPoints - 1) / kMostPoints;
  std::vector<double> x, y;
  for (size_t i = from; i < points.size(); i += step) {
    x.push_back(static_cast<double>(points[i].time_ns - points.front().time_ns) / kNsPerHour);
    y.push_back(lasting[i]);
  }
  residual.per_hour = TheilSen(x, y);
  return residual;
}

}  // namespace ollamatrace
