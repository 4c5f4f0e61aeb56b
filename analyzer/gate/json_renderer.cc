#include <cmath>

#include "analyzer/gate/renderers.h"
#include "nlohmann/json.hpp"

namespace ollamatrace {
namespace {

using Json = nlohmann::ordered_json;

const char* UnitName(BudgetUnit unit) {
  switch (unit) {
    case BudgetUnit::kBytes:
      return "bytes";
    case BudgetUnit::kSeconds:
      return "seconds";
    case BudgetUnit::kShare:
      return "share";
    case BudgetUnit::kConfidence:
      return "confidence";
    case BudgetUnit::kCount:
      break;
  }
  return "count";
}

Json Figure(const std::optional<double>& value) {
  return value ? Json(std::round(*value * 1e4) / 1e4) : Json(nullptr);
}

Json CulpritJson(const CheckView& view, const Culprit& culprit) {
  const ReportGroup& group = view.report.groups[culprit.group];
  Json frames = Json::array();
  for (const uint32_t index : group.frames) {
    const ReportFrame& frame = view.report.frames[index];
    frames.push_back({{"function", frame.function.empty() ? Json(nullptr) : Json(frame.function)},
                      {"file", frame.file.empty() ? Json(nullptr) : Json(frame.file)},
                      {"line", frame.line == 0 ? Json(nullptr) : Json(frame.line)},
                      {"module", frame.module.empty() ? Json(nullptr) : Json(frame.module)}});
  }
  return {{"message", culprit.message},
          {"rank", group.rank},
          {"verdict", group.verdict},
          {"confidence", group.confidence},
          {"live_bytes", group.live_bytes},
          {"blamed_frame", group.frames.empty() ? Json(nullptr) : Json(group.blamed_frame)},
          {"frames", frames}};
}

}  // namespace

std::string CheckAsJson(const CheckView& view) {
  Json budgets = Json::array(), suppressions = Json::array();
  for (const CheckedBudget& budget : view.result.budgets) {
    Json culprits = Json::array();
    for (const Culprit& culprit : budget.culprits) culprits.push_back(CulpritJson(view, culprit));
    budgets.push_back({{"id", budget.id},
                       {"outcome", OutcomeName(budget.outcome)},
                       {"unit", UnitName(budget.unit)},
                       {"value", Figure(budget.value)},
                       {"limit", Figure(budget.limit)},
                       {"baseline", Figure(budget.baseline)},
                       {"message", budget.message},
                       {"explanation", budget.explanation},
                       {"culprits", culprits}});
  }
  for (const SuppressionUse& use : view.result.suppressions) {
    suppressions.push_back({{"text", use.text}, {"stacks", use.stacks}, {"bytes", use.bytes}});
  }
  Json score = nullptr;
  if (view.result.score) {
    score = {{"grade", view.result.score->grade},
             {"share", Figure(view.result.score->share)},
             {"retained_bytes", Figure(view.result.score->retained_bytes)},
             {"peak_growth_bytes", Figure(view.result.score->peak_growth_bytes)},
             {"of", view.result.score->of}};
  }
  const Json json = {{"schema", "ollama-leakview/check/1"},
                     {"session", view.session},
                     {"broken", view.result.Broken()},
                     {"headline", CheckHeadline(view)},
                     {"budgets", budgets},
                     {"score", score},
                     {"suppressions", suppressions},
                     {"notes", view.result.notes}};
  return json.dump(1, ' ', false, Json::error_handler_t::replace) + "\n";
}

}  // namespace ollamatrace
