#include "analyzer/diagnose/statistics.h"

#include <algorithm>
#include <cmath>

namespace ollamatrace {
namespace {

// Sum over the groups of equal values (of size t) of t(t-1)(2t+5), as in Kendall's variance.
double TieTerm(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  double sum = 0;
  for (size_t i = 0; i < values.size();) {
    size_t end = i + 1;
    while (end < values.size() && values[end] == values[i]) ++end;
    const double t = static_cast<double>(end - i);
    sum += t * (t - 1) * (2 * t + 5);
    i = end;
  }
  return sum;
}

double VarianceOfS(absl::Span<const double> y) {
  const double n = static_cast<double>(y.size());
  return (n * (n - 1) * (2 * n + 5) - TieTerm({y.begin(), y.end()})) / 18;
}

void Standardize(Trend& trend) {
  if (trend.variance <= 0) return;
  const double corrected = trend.s > 0 ? trend.s - 1 : trend.s < 0 ? trend.s + 1 : 0;
  trend.z = corrected / std::sqrt(trend.variance);
  trend.p = std::erfc(std::abs(trend.z) / std::sqrt(2.0));
}

// Ranks from 1, equal values share their mean rank.
std::vector<double> Ranks(const std::vector<double>& values) {
  std::vector<size_t> order(values.size());
  for (size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return values[a] < values[b]; });
  std::vector<double> ranks(values.size());
  for (size_t i = 0; i < order.size();) {
    size_t end = i + 1;
    while (end < order.size() && values[order[end]] == values[order[i]]) ++end;
    const double rank = (static_cast<double>(i) + static_cast<double>(end) + 1) / 2;
    for (; i < end; ++i) ranks[order[i]] = rank;
  }
  return ranks;
}

// Running sums of a least squares line.
struct LineSums {
  double n = 0, x = 0, y = 0, xx = 0, xy = 0, yy = 0;
  void Add(double px, double py) {
    n += 1;
    x += px;
    y += py;
    xx += px * px;
    xy += px * py;
    yy += py * py;
  }
  LineSums Minus(const LineSums& other) const {
    return {n - other.n, x - other.x, y - other.y, xx - other.xx, xy - other.xy, yy - other.yy};
  }
  double SlopeOf() const {
    const double sxx = xx - x * x / n;
    return sxx > 0 ? (xy - x * y / n) / sxx : 0;
  }
  double Error() const {
    const double syy = yy - y * y / n;
    return std::max(0.0, syy - SlopeOf() * (xy - x * y / n));
  }
};

}  // namespace

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  const size_t half = values.size() / 2;
  std::nth_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(half),
                   values.end());
  if (values.size() % 2 == 1) return values[half];
  const double upper = values[half];
  return (*std::max_element(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(half)) +
          upper) /
         2;
}

Slope TheilSen(absl::Span<const double> x, absl::Span<const double> y) {
  const size_t n = std::min(x.size(), y.size());
  std::vector<double> slopes;
  slopes.reserve(n * (n - 1) / 2 + 1);
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j) {
      if (x[j] > x[i]) slopes.push_back((y[j] - y[i]) / (x[j] - x[i]));
    }
  }
  Slope result;
  if (slopes.empty()) return result;
  std::sort(slopes.begin(), slopes.end());
  const size_t count = slopes.size();
  result.slope =
      count % 2 == 1 ? slopes[count / 2] : (slopes[count / 2 - 1] + slopes[count / 2]) / 2;
  const double sigma = std::sqrt(
      std::max(0.0, VarianceOfS(y.subspan(0, n)) -
                        TieTerm({x.begin(), x.begin() + static_cast<std::ptrdiff_t>(n)}) / 18));
  const double pairs = static_cast<double>(count);
  const double lower = std::round((pairs - kNormal95 * sigma) / 2) - 1;
  const double upper = std::round((pairs + kNormal95 * sigma) / 2);
  result.low = slopes[static_cast<size_t>(std::clamp(lower, 0.0, pairs - 1))];
  result.high = slopes[static_cast<size_t>(std::clamp(upper, 0.0, pairs - 1))];
  return result;
}

Trend MannKendall(absl::Span<const double> y) {
  Trend trend;
  const size_t n = y.size();
  if (n < 2) return trend;
  for (size_t i = 0; i < n; ++i) {
    for (size_t j = i + 1; j < n; ++j) {
      trend.s += y[j] > y[i] ? 1 : y[j] < y[i] ? -1 : 0;
    }
  }
  trend.tau = trend.s / (static_cast<double>(n) * static_cast<double>(n - 1) / 2);
  trend.variance = VarianceOfS(y);
  Standardize(trend);
  return trend;
}

Trend MannKendallAutocorrelated(absl::Span<const double> y) {
  Trend trend = MannKendall(y);
  const size_t n = y.size();
  if (n < 4 || trend.variance <= 0) return trend;
  std::vector<double> x(n);
  for (size_t i = 0; i < n; ++i) x[i] = static_cast<double>(i);
  const double slope = TheilSen(x, y).slope;
  std::vector<double> rest(n);
  for (size_t i = 0; i < n; ++i) rest[i] = y[i] - slope * x[i];
  const std::vector<double> ranks = Ranks(rest);
  const double mean = (static_cast<double>(n) + 1) / 2;
  double power = 0;
  for (const double rank : ranks) power += (rank - mean) * (rank - mean);
  if (power <= 0) return trend;
  const double count = static_cast<double>(n);
  double sum = 0;
  for (size_t lag = 1; lag <= n / 3; ++lag) {
    double product = 0;
    for (size_t i = 0; i + lag < n; ++i) product += (ranks[i] - mean) * (ranks[i + lag] - mean);
    const double correlation = product / power;
    // A significant one, and none behind the first that is not.
    if (correlation < kNormal95 / std::sqrt(count)) break;
    const double left = count - static_cast<double>(lag);
    sum += left * (left - 1) * (left - 2) * correlation;
  }
  trend.variance *= 1 + 2 / (count * (count - 1) * (count - 2)) * sum;
  Standardize(trend);
  return trend;
}

TwoLines FitTwoLines(absl::Span<const double> x, absl::Span<const double> y, size_t least) {
  TwoLines best;
  const size_t n = std::min(x.size(), y.size());
  least = std::max<size_t>(least, 2);
  if (n < 2 * least) return best;
  LineSums all;
  // Differences of large sums lose digits: count from the middle of the ranges.
  const double x0 = (x[0] + x[n - 1]) / 2, y0 = (y[0] + y[n - 1]) / 2;
  for (size_t i = 0; i < n; ++i) all.Add(x[i] - x0, y[i] - y0);
  const double one = all.Error();
  best.first_slope = best.second_slope = all.SlopeOf();
  if (one <= 1e-12 * std::max(1.0, all.yy)) return best;
  LineSums first;
  double least_error = one;
  for (size_t i = 0; i + least <= n; ++i) {
    if (i >= least) {
      const LineSums second = all.Minus(first);
      const double error = first.Error() + second.Error();
      if (error < least_error) {
        least_error = error;
        best.cut = i;
        best.first_slope = first.SlopeOf();
        best.second_slope = second.SlopeOf();
      }
    }
    first.Add(x[i] - x0, y[i] - y0);
  }
  best.gain = 1 - least_error / one;
  return best;
}

}  // namespace ollamatrace
