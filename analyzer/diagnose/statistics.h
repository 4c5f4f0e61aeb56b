// Statistics that neither outliers nor steps deceive. Points are finite; x ascends.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_STATISTICS_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_STATISTICS_H_

#include <cstddef>
#include <vector>

#include "absl/types/span.h"

namespace ollamatrace {

double Median(std::vector<double> values);  // 0 for none

// Two-sided 95 % of the normal distribution.
inline constexpr double kNormal95 = 1.959963984540054;

struct Slope {
  double slope = 0;  // y by x
  double low = 0;    // of the 95 % confidence interval
  double high = 0;
};

// The median of the slopes of all pairs of points (Theil 1950, Sen 1968), with Sen's confidence
// interval: up to 29 % of the points may be anything. Pairs of equal x are left out. O(n^2): give
// it a hundred points. All 0 for less than two points.
Slope TheilSen(absl::Span<const double> x, absl::Span<const double> y);

struct Trend {
  double s = 0;         // pairs that rise minus pairs that fall
  double tau = 0;       // s by the number of pairs, -1 to 1
  double variance = 0;  // of s when there is no trend
  double z = 0;         // s in standard deviations, with continuity correction
  double p = 1;         // two-sided: how often chance alone gives a z like that
};

// Mann (1945), Kendall (1975): is there a monotonic trend? Ties are accounted for; the normal
// approximation holds from about 8 points on. Takes the points for independent.
Trend MannKendall(absl::Span<const double> y);

// The same for points that depend on their neighbours, as levels of memory do: the variance is
// enlarged by the autocorrelation of what remains when the trend is taken away (Hamed and Rao
// 1998, with all lags up to a third of the points whose correlation is positive and significant).
// A single step gives a large z above, and a moderate one here.
Trend MannKendallAutocorrelated(absl::Span<const double> y);

// Two straight lines that meet anywhere: where the points are best cut in two.
struct TwoLines {
  size_t cut = 0;  // index of the second line's first point; 0: one line is as good
  double first_slope = 0;
  double second_slope = 0;
  double gain = 0;  // 1 - (squared error of two lines) / (squared error of one), 0 to 1
};
// Each line gets at least `least` points (2 at least).
TwoLines FitTwoLines(absl::Span<const double> x, absl::Span<const double> y, size_t least);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_STATISTICS_H_
