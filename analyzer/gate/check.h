// Holds a report against budgets, and against a baseline.
#ifndef OLLAMATRACE_ANALYZER_GATE_CHECK_H_
#define OLLAMATRACE_ANALYZER_GATE_CHECK_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/gate/budget.h"
#include "analyzer/gate/measure.h"
#include "analyzer/gate/suppression.h"
#include "analyzer/report/report.h"

namespace ollamatrace {

enum class Outcome {
  kKept,
  kBroken,
  kNoWorse,      // over the limit, but not more than the baseline was
  kNotMeasured,  // the session does not tell
};
const char* OutcomeName(Outcome outcome);  // "kept", "broken", "no-worse", "not-measured"

// A stack that broke a budget.
struct Culprit {
  size_t group = 0;     // index into Report::groups
  std::string message;  // one sentence
};

struct CheckedBudget {
  std::string id;  // "growth-per-request"; of a stack's budget "stack:NAME"
  std::string title;
  BudgetUnit unit = BudgetUnit::kBytes;
  Outcome outcome = Outcome::kKept;
  std::optional<double> value;
  double limit = 0;
  std::optional<double> baseline;  // the baseline's value
  std::string message;             // one sentence: what was found, against what
  std::vector<std::string> explanation;
  std::vector<Culprit> culprits;
};

struct SuppressionUse {
  std::string text;
  uint64_t stacks = 0;  // 0: unused
  uint64_t bytes = 0;
};

struct CheckResult {
  std::vector<CheckedBudget> budgets;
  std::optional<Score> score;
  std::vector<SuppressionUse> suppressions;
  std::vector<std::string> notes;  // what limits the result: lost events, and the like

  bool Broken() const;
};

// Both reports as Measure takes them; `baseline` may be null. With one, only what got worse by more
// than a tenth is broken.
CheckResult Check(const Report& report, const Budgets& budgets,
                  const std::vector<Suppression>& suppressions, const Report* baseline);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_GATE_CHECK_H_
