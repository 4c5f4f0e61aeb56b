// The figures that budgets are held against, of one report. BUDGETS.md tells how each is measured.
#ifndef OLLAMATRACE_ANALYZER_GATE_MEASURE_H_
#define OLLAMATRACE_ANALYZER_GATE_MEASURE_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/gate/budget.h"
#include "analyzer/report/report.h"

namespace ollamatrace {

// What a stack adds to a figure, in the figure's unit.
struct MeasuredPart {
  size_t group = 0;  // index into Report::groups
  double amount = 0;
};

struct Measurement {
  std::optional<double> value;
  double sure = 0;      // at least so much: of a rate, the lower end of its 95 % interval
  bool open = false;    // `value` is what was seen when the session ended; it may be more
  std::string why_not;  // when there is no value
  std::vector<std::string> explanation;
  std::vector<MeasuredPart> parts;  // most first
};

// Retained by what was taken at most: under 20 % "excellent", under 40 % "good", under 60 % "fair",
// else "poor".
struct Score {
  double retained_bytes = 0;
  double peak_growth_bytes = 0;
  double share = 0;
  std::string grade;
  std::string of;  // "the last load and unload", "phase steady"
};

struct Measurements {
  std::array<Measurement, kBudgetKinds> by_kind;
  std::optional<Score> score;  // nothing: nothing grew

  Measurement& operator[](BudgetKind kind) { return by_kind[static_cast<size_t>(kind)]; }
  const Measurement& operator[](BudgetKind kind) const {
    return by_kind[static_cast<size_t>(kind)];
  }
};

// `report` has all groups, processes merged, and a timeline. `suppressed`, one for each group: it
// is forgiven, and counts nowhere but in totals.
Measurements Measure(const Report& report, const std::vector<bool>& suppressed);

// "LeakPrompt (leaks.cc:31)": the frame to look at.
std::string PlaceOf(const Report& report, const ReportGroup& group);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_GATE_MEASURE_H_
