#include "analyzer/watch/level_history.h"

#include <algorithm>

namespace ollamatrace {
namespace {

void KeepEverySecond(std::vector<double>& values) {
  size_t kept = 0;
  for (size_t i = 0; i < values.size(); i += 2) values[kept++] = values[i];
  values.resize(kept);
}

}  // namespace

void LevelHistory::Add(double seconds, double bytes) {
  if (seen_++ % stride_ != 0) return;
  curve_.x.push_back(seconds / 3600);
  curve_.seconds.push_back(seconds);
  curve_.bytes.push_back(bytes);
  if (curve_.size() < 2 * kPoints) return;
  KeepEverySecond(curve_.x);
  KeepEverySecond(curve_.seconds);
  KeepEverySecond(curve_.bytes);
  stride_ *= 2;
}

std::optional<LevelHistory::Slope> LevelHistory::GrowthByHour(double least_seconds) const {
  if (curve_.size() < 8 || curve_.seconds.back() - curve_.seconds.front() < least_seconds) {
    return std::nullopt;
  }
  const Growth growth = AnalyzeGrowth(curve_);
  return Slope{std::max(0.0, growth.slope.slope), std::max(0.0, growth.slope.low)};
}

}  // namespace ollamatrace
