#include "analyzer/diagnose/growth.h"

#include <algorithm>
#include <cmath>

#include "absl/types/span.h"

namespace ollamatrace {
namespace {

constexpr size_t kFloors = 16;
constexpr size_t kMostForSlope = 96;  // its cost is quadratic
constexpr double kWarmUpGain = 0.7;
constexpr double kRisesOfACurve = 0.5;  // by the number of points
constexpr double kMostGapsBeforeFirst = 3;
constexpr double kCapShare = 0.98;

std::vector<double> Floors(absl::Span<const double> bytes) {
  if (bytes.size() <= kFloors) return {bytes.begin(), bytes.end()};
  std::vector<double> floors;
  for (size_t i = 0; i < kFloors; ++i) {
    const size_t begin = bytes.size() * i / kFloors, end = bytes.size() * (i + 1) / kFloors;
    floors.push_back(*std::min_element(bytes.begin() + static_cast<std::ptrdiff_t>(begin),
                                       bytes.begin() + static_cast<std::ptrdiff_t>(end)));
  }
  return floors;
}

// The first index of the steady part; 0: all of it.
size_t WarmUp(absl::Span<const double> x, absl::Span<const double> y) {
  const TwoLines lines = FitTwoLines(x, y, std::max<size_t>(2, x.size() / 32));
  if (lines.cut == 0 || lines.cut > x.size() / 2 || lines.gain < kWarmUpGain) return 0;
  // A corner that turns upwards is no warm-up that ended, but growth that began.
  const double before = y[lines.cut - 1] - y[0], after = y[y.size() - 1] - y[lines.cut];
  const double early = before / std::max(x[lines.cut - 1] - x[0], 1e-300);
  const double late = after / std::max(x[x.size() - 1] - x[lines.cut], 1e-300);
  return late > early && before > 0 ? 0 : lines.cut;
}

// All growth by the width in which it came. Where the curve is the whole one, the wait for its
// first step counts too, if it was not much longer than a step takes; `origin` is when it began.
Slope StaircaseRate(absl::Span<const double> x, absl::Span<const double> bytes, bool whole,
                    double origin) {
  const std::vector<double> kept = Retained({bytes.begin(), bytes.end()});
  double squares = 0, largest = 0, rises = 0;
  for (size_t i = 1; i < kept.size(); ++i) {
    const double step = kept[i] - kept[i - 1];
    if (step > 0) ++rises;
    squares += step * step;
    largest = std::max(largest, step);
  }
  double begin = x[0], base = kept[0];
  if (whole && rises > 0 && base <= largest &&
      begin - origin <= kMostGapsBeforeFirst * (x.back() - begin) / rises) {
    squares += base * base;
    begin = origin;
    base = 0;
  }
  const double width = x.back() - begin;
  if (width <= 0) return {};
  const double rate = (kept.back() - base) / width;
  const double doubt = kNormal95 * std::sqrt(squares) / width;
  return {rate, rate - doubt, rate + doubt};
}

void SetFrom(const LiveCurve& curve, size_t first, Growth& growth) {
  growth.first = first;
  growth.from = curve.x[first];
  growth.from_seconds = curve.seconds[first];
  growth.from_bytes = curve.bytes[first];
  growth.grown = growth.to_bytes - growth.from_bytes;
}

// Growth in the last third by that in the first.
double LateByEarly(absl::Span<const double> x, const std::vector<double>& kept) {
  const double width = x.back() - x[0];
  const auto at = [&](double share) {
    const auto it = std::lower_bound(x.begin(), x.end(), x[0] + share * width);
    return kept[std::min(static_cast<size_t>(it - x.begin()), kept.size() - 1)];
  };
  const double early = at(1.0 / 3) - kept[0], late = kept.back() - at(2.0 / 3);
  return early > 0 ? late / early : late > 0 ? 1e9 : 1;
}

void Shape(absl::Span<const double> x, absl::Span<const double> bytes, Growth& growth) {
  const std::vector<double> kept = Retained({bytes.begin(), bytes.end()});
  const size_t n = x.size();
  const double rise = kept[n - 1] - kept[0], width = x[n - 1] - x[0];
  if (rise <= 0 || width <= 0) return;
  for (size_t i = 1; i < n; ++i) {
    const double step = kept[i] - kept[i - 1];
    const double at = (x[i] - x[0]) / width;
    if (step > 0) {
      ++growth.rises;
      growth.largest_rise = std::max(growth.largest_rise, step / rise);
      growth.last_rise = at;
    }
    const double distance = (kept[i] - kept[0]) / rise - at;
    growth.above_line = std::max(growth.above_line, distance);
    growth.below_line = std::max(growth.below_line, -distance);
  }
  growth.late_by_early = LateByEarly(x, kept);
}

}  // namespace

std::vector<double> Retained(const std::vector<double>& bytes) {
  std::vector<double> kept = bytes;
  for (size_t i = kept.size(); i-- > 1;) kept[i - 1] = std::min(kept[i - 1], kept[i]);
  return kept;
}

Growth AnalyzeGrowth(const LiveCurve& curve) {
  Growth growth;
  const auto first =
      std::find_if(curve.bytes.begin(), curve.bytes.end(), [](double bytes) { return bytes != 0; });
  if (first == curve.bytes.end()) return growth;
  size_t begin = static_cast<size_t>(first - curve.bytes.begin());
  if (begin > 0) --begin;  // from nothing
  growth.points = curve.size() - begin;
  if (growth.points < 2) return growth;
  const auto x = absl::MakeConstSpan(curve.x).subspan(begin);
  const auto bytes = absl::MakeConstSpan(curve.bytes).subspan(begin);

  growth.peak_bytes = *std::max_element(bytes.begin(), bytes.end());
  const auto cap = std::find_if(bytes.begin(), bytes.end(), [&](double level) {
    return level >= kCapShare * growth.peak_bytes;
  });
  const double width = x.back() - x.front();
  growth.reached_cap = width > 0 ? (x[static_cast<size_t>(cap - bytes.begin())] - x[0]) / width : 0;
  double high = 0;
  for (const double level : bytes) {
    if (level < high / 2) {
      ++growth.collapses;
      high = level;
    }
    high = std::max(high, level);
  }

  const size_t warm = WarmUp(x, bytes);
  growth.warm_up_cut = warm > 0;
  const auto rest_x = x.subspan(warm), rest = bytes.subspan(warm);
  growth.to = rest_x.back();
  growth.to_seconds = curve.seconds.back();
  growth.to_bytes = rest.back();
  SetFrom(curve, begin + warm, growth);

  Shape(rest_x, rest, growth);
  growth.whole_late_by_early =
      warm > 0 ? LateByEarly(x, Retained({bytes.begin(), bytes.end()})) : growth.late_by_early;
  // Most stacks do nothing after they began: that was their warm-up. It spares the costly part.
  if (growth.rises < 2) {
    if (growth.rises == 1) {
      const std::vector<double> kept = Retained({rest.begin(), rest.end()});
      const size_t risen = static_cast<size_t>(
          std::upper_bound(kept.begin(), kept.end(), kept.front()) - kept.begin());
      SetFrom(curve, growth.first + std::min(risen, rest.size() - 1), growth);
    }
    return growth;
  }
  std::vector<double> few_x, few;
  const size_t step = (rest.size() + kMostForSlope - 1) / kMostForSlope;
  for (size_t i = (rest.size() - 1) % step; i < rest.size(); i += step) {
    few_x.push_back(rest_x[i]);
    few.push_back(rest[i]);
  }
  growth.slope = TheilSen(few_x, few);
  // A point stands at the end of what it tells of.
  const double origin = std::max(0.0, 2 * curve.x[0] - curve.x[1]);
  growth.rate = growth.rises < kRisesOfACurve * few.size()
                    ? StaircaseRate(rest_x, rest, warm == 0, origin)
                    : growth.slope;
  growth.trend = MannKendallAutocorrelated(Floors(rest));
  return growth;
}

}  // namespace ollamatrace
