// Does a curve of live bytes grow, how fast, how surely, and since when? Pure arithmetic on one
// curve; what it means is verdict.h's business.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_GROWTH_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_GROWTH_H_

#include <cstddef>
#include <vector>

#include "analyzer/diagnose/statistics.h"

namespace ollamatrace {

// Live bytes at ascending moments.
struct LiveCurve {
  std::vector<double> x;        // what growth is measured by: seconds, or requests answered
  std::vector<double> seconds;  // when that was, since the session's start
  std::vector<double> bytes;

  size_t size() const { return x.size(); }
};

// Of what never went away again: at each moment, the smallest of all later levels. It only rises.
// What comes and goes between two moments, or fills a cache and leaves it again, is not in it.
std::vector<double> Retained(const std::vector<double>& bytes);

struct Growth {
  size_t points = 0;  // from the first byte on; less than two: nothing below is set
  // The warm-up is cut where two lines fit much better than one, in the first half.
  bool warm_up_cut = false;
  size_t first = 0;  // index of the first point after the warm-up
  double from = 0;   // its x, seconds and bytes
  double from_seconds = 0;
  double from_bytes = 0;
  double to = 0;  // the last point's
  double to_seconds = 0;
  double to_bytes = 0;
  double peak_bytes = 0;  // the greatest level

  // All that follows is of the points after the warm-up.
  double grown = 0;  // to_bytes - from_bytes
  Slope slope;       // bytes by x; 0 with less than two rises, as is the trend
  Trend trend;       // of the floors of sixteen parts
  // The rate to tell: the slope or, where the curve is a staircase of few steps, all growth by the
  // whole width (what lies between two points is then mostly nothing), with the interval of a sum
  // of as many steps that come by chance.
  Slope rate;
  // Of the retained curve: how often it rose, the greatest rise's share of all, and where the last
  // one was, 0 to 1.
  size_t rises = 0;
  double largest_rise = 0;
  double last_rise = 0;
  // Greatest distance of the retained curve from a straight line, both scaled to 1: above it when
  // the growth slows down or stops, below it when it comes late or accelerates.
  double above_line = 0;
  double below_line = 0;
  // Growth in the last third by that in the first.
  double late_by_early = 0;
  double whole_late_by_early = 0;  // the same with the warm-up
  // Where 98 % of the peak were first reached, 0 to 1 of the whole curve: the share that is left is
  // spent at the cap or below it.
  double reached_cap = 0;
  // Falls to less than half of the level reached before.
  size_t collapses = 0;
};

Growth AnalyzeGrowth(const LiveCurve& curve);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_GROWTH_H_
