#include "analyzer/gate/budget.h"

#include <cmath>
#include <cstdint>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr double kMiB = 1024.0 * 1024;

constexpr std::array<BudgetSpec, kBudgetKinds> kSpecs = {{
    {BudgetKind::kLeakConfidence, "leak-confidence", "leaking stacks", BudgetUnit::kConfidence, 0.5,
     "no stack with the verdict leak that is at least so sure (0 to 1)"},
    {BudgetKind::kGrowthPerRequest, "growth-per-request", "growth per request", BudgetUnit::kBytes,
     1 * kMiB, "growth after the warm-up, by request"},
    {BudgetKind::kMemoryPerRequest, "memory-per-request", "memory for requests in flight",
     BudgetUnit::kBytes, 50 * kMiB, "what comes and goes while requests are served, at most"},
    {BudgetKind::kGrowthPerHour, "growth-per-hour", "growth per hour", BudgetUnit::kBytes,
     10 * kMiB, "growth after the warm-up, by hour (of a minute at least)"},
    {BudgetKind::kIdleGrowthPerHour, "idle-growth-per-hour", "growth per hour without requests",
     BudgetUnit::kBytes, 10 * kMiB, "the same of idle phases (of 10 s at least)"},
    {BudgetKind::kRetainedAfterLoad, "retained-after-load", "retained after the load",
     BudgetUnit::kBytes, 50 * kMiB, "what the steady load left behind, after the idle phase"},
    {BudgetKind::kRetainedAfterUnload, "retained-after-unload", "retained after unload",
     BudgetUnit::kBytes, 100 * kMiB, "what is left of a load after its unload"},
    {BudgetKind::kRecoveryTime, "recovery-time", "recovery after unload", BudgetUnit::kSeconds, 300,
     "until nine tenths of what loading took are free again"},
    {BudgetKind::kGpuGrowthPerHour, "gpu-growth-per-hour", "GPU memory's growth per hour",
     BudgetUnit::kBytes, 10 * kMiB, "growth-per-hour of GPU memory"},
    {BudgetKind::kGpuResidualPerHour, "gpu-residual-per-hour",
     "growth per hour of a GPU's residual", BudgetUnit::kBytes, 10 * kMiB,
     "what NVML tells of a process and no allocation does"},
    {BudgetKind::kOpenFilesGrowth, "open-files-growth", "open files and sockets",
     BudgetUnit::kCount, 100, "by how many more are open after the load than after the warm-up"},
    {BudgetKind::kPeak, "peak", "peak", BudgetUnit::kBytes, std::nullopt,
     "most memory of all processes together"},
    {BudgetKind::kRssGrowth, "rss-growth", "growth of RssAnon", BudgetUnit::kBytes, std::nullopt,
     "of all processes, from the warm-up to the idle phase after the load"},
    {BudgetKind::kFragmentation, "fragmentation", "fragmentation", BudgetUnit::kShare, std::nullopt,
     "share of a heap's memory that is free and cannot be returned (of heaps of 16 MiB)"},
}};

}  // namespace

absl::Span<const BudgetSpec> BudgetSpecs() { return kSpecs; }

std::string FormatBudgetValue(BudgetUnit unit, double value) {
  switch (unit) {
    case BudgetUnit::kBytes:
      return FormatBytes(std::round(value));
    case BudgetUnit::kSeconds:
      return FormatSeconds(value);
    case BudgetUnit::kShare:
      return absl::StrFormat("%.1f %%", value * 100);
    case BudgetUnit::kConfidence:
      return absl::StrFormat("%.2f", value);
    case BudgetUnit::kCount:
      break;
  }
  return absl::StrFormat("%.0f", value);
}

absl::Status ParseBudgetValue(BudgetUnit unit, absl::string_view text, double& value) {
  switch (unit) {
    case BudgetUnit::kBytes: {
      uint64_t bytes = 0;
      const absl::Status status = ParseBytes(text, bytes);
      if (status.ok()) value = static_cast<double>(bytes);
      return status;
    }
    case BudgetUnit::kSeconds:
      return ParseSeconds(text, value);
    case BudgetUnit::kShare: {
      const bool percent = absl::ConsumeSuffix(&text, "%");
      double share = 0;
      if (!absl::SimpleAtod(text, &share)) share = -1;
      if (percent) share /= 100;
      if (!(share >= 0 && share <= 1)) {
        return absl::InvalidArgumentError("not a share; give 30% or 0.3");
      }
      value = share;
      return absl::OkStatus();
    }
    case BudgetUnit::kConfidence: {
      double confidence = 0;
      if (!absl::SimpleAtod(text, &confidence) || !(confidence >= 0 && confidence <= 1)) {
        return absl::InvalidArgumentError("not a confidence; give a number from 0 to 1");
      }
      value = confidence;
      return absl::OkStatus();
    }
    case BudgetUnit::kCount:
      break;
  }
  uint64_t count = 0;
  if (!absl::SimpleAtoi(text, &count)) return absl::InvalidArgumentError("not a number");
  value = static_cast<double>(count);
  return absl::OkStatus();
}

Budgets StandardBudgets() {
  Budgets budgets;
  for (const BudgetSpec& spec : kSpecs) budgets[spec.kind] = spec.standard;
  return budgets;
}

}  // namespace ollamatrace
