#include "analyzer/cli/check_arguments.h"

#include <limits.h>
#include <stdlib.h>
#include <unistd.h>

#include <optional>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "analyzer/cli/read_small_file.h"

namespace ollamatrace {
namespace {

using absl::string_view;

// Once: what is given twice with different values is a contradiction.
std::function<absl::Status(string_view)> SetOnce(std::string& text) {
  return [&text](string_view value) {
    if (value.empty()) return absl::InvalidArgumentError("empty");
    if (!text.empty() && text != value) {
      return absl::InvalidArgumentError(absl::StrCat("contradicts ", text, ", given before"));
    }
    text = std::string(value);
    return absl::OkStatus();
  };
}

absl::Status FindFormat(string_view name, const CheckFormat*& format) {
  const CheckFormat* found = FindCheckFormat(name);
  if (found == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("not known; give ", absl::StrJoin(CheckFormatNames(), ", ")));
  }
  format = found;
  return absl::OkStatus();
}

absl::Status AddWrite(string_view value, CheckArguments& arguments) {
  const size_t equals = value.find('=');
  if (equals == string_view::npos || equals + 1 == value.size()) {
    return absl::InvalidArgumentError("give FORMAT=FILE, like junit=memory.xml");
  }
  const CheckFormat* format = nullptr;
  absl::Status status = FindFormat(value.substr(0, equals), format);
  if (!status.ok()) return status;
  const std::string file(value.substr(equals + 1));
  for (const auto& [other, path] : arguments.writes) {
    if (path == file) {
      return absl::InvalidArgumentError(
          absl::StrCat("contradicts --write=", other->name, "=", path, ": the same file"));
    }
  }
  arguments.writes.emplace_back(format, file);
  return absl::OkStatus();
}

Option BudgetOption(const BudgetSpec& spec, CheckArguments& arguments) {
  static constexpr const char* kPlaceholders[] = {"SIZE", "TIME", "SHARE", "0..1", "N"};
  return {absl::StrCat("--", spec.name), kPlaceholders[static_cast<size_t>(spec.unit)],
          absl::StrCat(spec.help, "\n(default: ",
                       spec.standard ? FormatBudgetValue(spec.unit, *spec.standard) : "off", ")"),
          [&arguments, &spec](string_view value) {
            double number = 0;
            if (value != "off") {
              absl::Status status = ParseBudgetValue(spec.unit, value, number);
              if (!status.ok()) return status;
            }
            const auto [it, added] = arguments.flags.try_emplace(spec.name, value);
            if (!added && it->second != value) {
              return absl::InvalidArgumentError(
                  absl::StrCat("contradicts --", spec.name, "=", it->second, ", given before"));
            }
            return absl::OkStatus();
          }};
}

std::string RealPath(const std::string& path) {
  char real[PATH_MAX];
  return realpath(path.c_str(), real) == nullptr ? path : real;
}

}  // namespace

std::vector<Option> CheckOptions(CheckArguments& arguments) {
  std::vector<Option> options = {
      {"--format", "NAME",
       absl::StrCat("of standard output: ", absl::StrJoin(CheckFormatNames(), ", "),
                    " (default: text)"),
       [&](string_view value) { return FindFormat(value, arguments.format); }, CheckFormatNames()},
      {"--write", "FORMAT=FILE", "writes a file as well; may be repeated",
       [&](string_view value) { return AddWrite(value, arguments); }},
      {"--budget", "FILE", "a YAML file with budgets; what it does not name stays as below",
       SetOnce(arguments.budget_file)},
      {"--baseline", "PATH", "a trace or session before the change: only what got worse breaks",
       SetOnce(arguments.baseline)},
      {"--suppressions", "FILE",
       "stacks that are forgiven, in LeakSanitizer's syntax (leak:PATTERN) or by verdict\n"
       "(growth-per-request:PATTERN)",
       SetOnce(arguments.suppressions_file)},
      {"--source-root", "DIR", "files below it are named relative to it (default: this folder)",
       SetOnce(arguments.source_root)},
      {"--process", "NAME|PID", "only processes of this name or pid; may be repeated",
       [&](string_view value) {
         for (const string_view one : absl::StrSplit(value, ',')) {
           if (one.empty()) return absl::InvalidArgumentError("empty");
           arguments.processes.emplace_back(one);
         }
         return absl::OkStatus();
       }},
  };
  for (Option& option : SymbolOptions(arguments.symbols)) options.push_back(std::move(option));
  for (const BudgetSpec& spec : BudgetSpecs()) options.push_back(BudgetOption(spec, arguments));
  return options;
}

absl::Status FinishCheckArguments(const std::vector<std::string>& paths,
                                  CheckArguments& arguments) {
  arguments.budgets = StandardBudgets();
  if (!arguments.budget_file.empty()) {
    const absl::StatusOr<std::string> text = ReadSmallFile(arguments.budget_file);
    if (!text.ok()) return text.status();
    absl::Status status = ReadBudgets(arguments.budget_file, *text, arguments.budgets);
    if (!status.ok()) return status;
  }
  for (const BudgetSpec& spec : BudgetSpecs()) {
    const auto flag = arguments.flags.find(spec.name);
    if (flag == arguments.flags.end()) continue;
    std::optional<double>& limit = arguments.budgets[spec.kind];
    limit.reset();
    double number = 0;
    if (flag->second != "off" && ParseBudgetValue(spec.unit, flag->second, number).ok()) {
      limit = number;
    }
  }
  for (const std::string& line : arguments.budgets.suppressions) {
    absl::StatusOr<Suppression> one = ParseSuppression(line);
    if (!one.ok()) return one.status();
    arguments.suppressions.push_back(*std::move(one));
  }
  if (!arguments.suppressions_file.empty()) {
    const absl::StatusOr<std::string> text = ReadSmallFile(arguments.suppressions_file);
    if (!text.ok()) return text.status();
    absl::StatusOr<std::vector<Suppression>> more =
        ParseSuppressions(arguments.suppressions_file, *text);
    if (!more.ok()) return more.status();
    arguments.suppressions.insert(arguments.suppressions.end(), more->begin(), more->end());
  }
  if (!arguments.baseline.empty()) {
    for (const std::string& path : paths) {
      if (RealPath(path) == RealPath(arguments.baseline)) {
        return absl::InvalidArgumentError(
            absl::StrCat("--baseline=", arguments.baseline,
                         " is what is to be checked: nothing could be worse"));
      }
    }
  }
  bool any = !arguments.budgets.stacks.empty();
  for (const std::optional<double>& limit : arguments.budgets.limits) any = any || limit;
  if (!any) return absl::InvalidArgumentError("every budget is off: there is nothing to check");
  if (arguments.source_root.empty()) {
    char folder[PATH_MAX];
    if (getcwd(folder, sizeof(folder)) != nullptr) arguments.source_root = folder;
  } else {
    arguments.source_root = RealPath(arguments.source_root);
  }
  return absl::OkStatus();
}

}  // namespace ollamatrace
