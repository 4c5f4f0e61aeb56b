#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/gate/budget.h"
#include "analyzer/gate/suppression.h"
#include "analyzer/yaml/yaml_map.h"

namespace ollamatrace {
namespace {

// Sets `limit`, or takes it away: YAML 1.1 reads a bare off as false.
std::function<absl::Status(const std::string&)> SetLimit(BudgetUnit unit,
                                                         std::optional<double>& limit) {
  return [unit, &limit](const std::string& text) {
    limit.reset();
    if (text == "off" || text == "false") return absl::OkStatus();
    double number = 0;
    absl::Status status = ParseBudgetValue(unit, text, number);
    if (status.ok()) limit = number;
    return status;
  };
}

std::function<absl::Status(const std::string&)> SetText(std::string& text) {
  return [&text](const std::string& value) {
    if (value.empty()) return absl::InvalidArgumentError("empty");
    text = value;
    return absl::OkStatus();
  };
}

absl::Status ReadLimits(const YamlPlace& place, const YAML::Node& node, Budgets& budgets) {
  YamlScalars scalars;
  for (const BudgetSpec& spec : BudgetSpecs()) {
    scalars[spec.name] = SetLimit(spec.unit, budgets[spec.kind]);
  }
  return ReadYamlScalars(place, node, "budgets", scalars);
}

absl::Status ReadStack(const YamlPlace& place, const YAML::Node& node, Budgets& budgets) {
  StackBudget stack;
  absl::Status status = ReadYamlScalars(
      place, node, "a stack",
      {{"name", SetText(stack.name)},
       {"function", SetText(stack.function)},
       {"module", SetText(stack.module)},
       {"bytes", SetLimit(BudgetUnit::kBytes, stack.bytes)},
       {"growth-per-request", SetLimit(BudgetUnit::kBytes, stack.growth_per_request)}});
  if (!status.ok()) return status;
  if (stack.function.empty() && stack.module.empty()) {
    return place.Error(node, "a stack needs a function or a module");
  }
  if (!stack.bytes && !stack.growth_per_request) {
    return place.Error(node, "a stack needs bytes or growth-per-request");
  }
  if (stack.name.empty()) stack.name = stack.function.empty() ? stack.module : stack.function;
  budgets.stacks.push_back(std::move(stack));
  return absl::OkStatus();
}

absl::Status ReadSuppression(const YamlPlace& place, const YAML::Node& node, Budgets& budgets) {
  if (!node.IsScalar()) {
    return place.Error(node, "a suppression is one text, \"leak:FUNCTION\" (without a space)");
  }
  const absl::StatusOr<Suppression> suppression = ParseSuppression(node.Scalar());
  if (!suppression.ok()) return place.Error(node, suppression.status().message());
  budgets.suppressions.push_back(node.Scalar());
  return absl::OkStatus();
}

absl::Status ReadRoot(const YamlPlace& place, const YAML::Node& root, Budgets& budgets) {
  return ReadYamlMap(place, root, "the file", {"budgets", "stacks", "suppressions"}, {},
                     [&](const std::string& key, const YAML::Node& value) -> absl::Status {
                       if (key == "budgets") return ReadLimits(place, value, budgets);
                       if (!value.IsSequence()) {
                         return place.Error(
                             value, absl::StrCat(key, " has to be a list, - ",
                                                 key == "stacks" ? "function: NAME" : "leak:NAME"));
                       }
                       const auto read = key == "stacks" ? ReadStack : ReadSuppression;
                       for (const YAML::Node& one : value) {
                         if (absl::Status status = read(place, one, budgets); !status.ok())
                           return status;
                       }
                       return absl::OkStatus();
                     });
}

}  // namespace

absl::Status ReadBudgets(const std::string& name, const std::string& text, Budgets& budgets) {
  return ReadYaml(name, text, [&](const YamlPlace& place, const YAML::Node& root) {
    return ReadRoot(place, root, budgets);
  });
}

}  // namespace ollamatrace
