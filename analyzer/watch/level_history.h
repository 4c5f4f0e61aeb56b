// A level over time in a bounded number of points.
#ifndef OLLAMATRACE_ANALYZER_WATCH_LEVEL_HISTORY_H_
#define OLLAMATRACE_ANALYZER_WATCH_LEVEL_HISTORY_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

#include "analyzer/diagnose/growth.h"

namespace ollamatrace {

// Keeps every point until there are 2 * kPoints, then every second one, and so on: the whole time
// since the first point, ever more coarsely.
class LevelHistory {
 public:
  static constexpr size_t kPoints = 120;

  void Add(double seconds, double bytes);

  // Bytes by hour after the warm-up, the lower end of its 95 % interval; nothing before `least`
  // seconds are covered.
  struct Slope {
    double by_hour = 0;
    double sure = 0;
  };
  std::optional<Slope> GrowthByHour(double least_seconds) const;

 private:
  LiveCurve curve_;
  uint64_t stride_ = 1;
  uint64_t seen_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_LEVEL_HISTORY_H_
