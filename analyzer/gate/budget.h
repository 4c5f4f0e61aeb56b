// What a session may cost: budgets, and the stacks that are forgiven.
#ifndef OLLAMATRACE_ANALYZER_GATE_BUDGET_H_
#define OLLAMATRACE_ANALYZER_GATE_BUDGET_H_

#include <array>
#include <cstddef>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"

namespace ollamatrace {

// BUDGETS.md says how each is measured.
enum class BudgetKind : size_t {
  kLeakConfidence,
  kGrowthPerRequest,
  kMemoryPerRequest,
  kGrowthPerHour,
  kIdleGrowthPerHour,
  kRetainedAfterLoad,
  kRetainedAfterUnload,
  kRecoveryTime,
  kGpuGrowthPerHour,
  kGpuResidualPerHour,
  kOpenFilesGrowth,
  kPeak,
  kRssGrowth,
  kFragmentation,
};
inline constexpr size_t kBudgetKinds = 14;

enum class BudgetUnit { kBytes, kSeconds, kShare, kConfidence, kCount };

struct BudgetSpec {
  BudgetKind kind;
  const char* name;   // the YAML key; with two dashes before it, the flag
  const char* title;  // for people
  BudgetUnit unit;
  std::optional<double> standard;  // nothing: off unless it is asked for
  const char* help;
};

// One for each kind, in its order.
absl::Span<const BudgetSpec> BudgetSpecs();

// "1.5 MiB", "30 %", "0.80", "5 min 0 s".
std::string FormatBudgetValue(BudgetUnit unit, double value);

// As people write it: 1M, 5min, 30%, 0.8, 100. InvalidArgument says what it should be.
absl::Status ParseBudgetValue(BudgetUnit unit, absl::string_view text, double& value);

// What one named stack may keep, or grow by.
struct StackBudget {
  std::string name;
  std::string function;  // patterns as in suppression.h; at least one is not empty
  std::string module;
  std::optional<double> bytes;               // live at the end
  std::optional<double> growth_per_request;  // bytes
};

struct Budgets {
  std::array<std::optional<double>, kBudgetKinds> limits;  // by kind; nothing: off
  std::vector<StackBudget> stacks;
  std::vector<std::string> suppressions;  // lines, as in suppression.h

  std::optional<double>& operator[](BudgetKind kind) { return limits[static_cast<size_t>(kind)]; }
  const std::optional<double>& operator[](BudgetKind kind) const {
    return limits[static_cast<size_t>(kind)];
  }
};

// The standard ones.
Budgets StandardBudgets();

// Sets what the YAML `text` says and leaves the rest. InvalidArgument begins with `name`, the line,
// and names the bad key with the nearest valid one.
absl::Status ReadBudgets(const std::string& name, const std::string& text, Budgets& budgets);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_GATE_BUDGET_H_
