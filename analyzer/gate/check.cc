#include "analyzer/gate/check.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/report/diff_reports.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

// So much more than the baseline is still the same.
constexpr double kSlack = 0.1;

bool Worse(double now, double before) { return now > before * (1 + kSlack); }

std::string Bytes(double bytes) { return FormatBytes(std::round(bytes)); }

std::vector<bool> Suppressed(const Report& report, const std::vector<Suppression>& suppressions,
                             std::vector<SuppressionUse>* uses) {
  std::vector<bool> suppressed(report.groups.size());
  for (const Suppression& one : suppressions) {
    SuppressionUse use{one.text};
    for (size_t i = 0; i < report.groups.size(); ++i) {
      if (!Suppresses(one, report, report.groups[i])) continue;
      suppressed[i] = true;
      ++use.stacks;
      use.bytes += report.groups[i].live_bytes;
    }
    if (uses != nullptr) uses->push_back(std::move(use));
  }
  return suppressed;
}

class Checker {
 public:
  Checker(const Report& report, const Budgets& budgets,
          const std::vector<Suppression>& suppressions, const Report* baseline)
      : report_(report), budgets_(budgets), suppressions_(suppressions), baseline_(baseline) {}

  CheckResult Run() {
    suppressed_ = Suppressed(report_, suppressions_, &result_.suppressions);
    measured_ = Measure(report_, suppressed_);
    result_.score = measured_.score;
    if (baseline_ != nullptr) {
      before_ = Measure(*baseline_, Suppressed(*baseline_, suppressions_, nullptr));
      MatchGroups();
    }
    for (const BudgetSpec& spec : BudgetSpecs()) {
      if (!budgets_[spec.kind]) continue;
      if (spec.kind == BudgetKind::kLeakConfidence) {
        CheckLeaks(spec);
      } else {
        CheckOne(spec);
      }
    }
    for (const StackBudget& stack : budgets_.stacks) CheckStack(stack);
    AddNotes();
    return std::move(result_);
  }

 private:
  // Which group of the baseline each group is, by the names on its stack.
  void MatchGroups() {
    known_.resize(report_.groups.size());
    for (const DiffEntry& entry : DiffReports(*baseline_, report_).entries) {
      for (const size_t group : entry.after.groups) known_[group] = entry.before;
    }
  }

  CheckedBudget Begin(const BudgetSpec& spec) const {
    CheckedBudget checked;
    checked.id = spec.name;
    checked.title = spec.title;
    checked.unit = spec.unit;
    checked.limit = *budgets_[spec.kind];
    const Measurement& measured = measured_[spec.kind];
    checked.value = measured.value;
    checked.explanation = measured.explanation;
    if (baseline_ != nullptr) checked.baseline = before_[spec.kind].value;
    return checked;
  }

  void CheckOne(const BudgetSpec& spec) {
    CheckedBudget checked = Begin(spec);
    const Measurement& measured = measured_[spec.kind];
    const auto text = [&](double value) { return FormatBudgetValue(spec.unit, value); };
    const bool unknown = measured.open && measured.sure <= checked.limit;
    if (!measured.value || unknown) {
      checked.value.reset();
      checked.outcome = Outcome::kNotMeasured;
      checked.message = absl::StrCat("not measured: ", measured.why_not);
      result_.budgets.push_back(std::move(checked));
      return;
    }
    checked.message = absl::StrCat(text(*measured.value), ", allowed ", text(checked.limit));
    if (measured.sure > checked.limit) {
      checked.outcome = Outcome::kBroken;
      if (checked.baseline && !Worse(*measured.value, *checked.baseline)) {
        checked.outcome = Outcome::kNoWorse;
        absl::StrAppend(&checked.message, "; the baseline had ", text(*checked.baseline));
      }
    } else if (*measured.value > checked.limit) {
      checked.explanation.push_back(absl::StrCat(
          "not sure enough to count: the 95 % interval begins at ", text(measured.sure)));
    }
    if (checked.outcome == Outcome::kBroken) {
      for (const MeasuredPart& part : measured.parts) {
        checked.culprits.push_back({part.group, absl::StrCat(Story(part.group), "; of ", spec.title,
                                                             ", ", text(part.amount), " are its")});
      }
    }
    result_.budgets.push_back(std::move(checked));
  }

  void CheckLeaks(const BudgetSpec& spec) {
    CheckedBudget checked = Begin(spec);
    size_t known = 0;
    for (const MeasuredPart& part : measured_[spec.kind].parts) {
      if (part.amount < checked.limit) continue;
      if (IsKnownLeak(part.group)) {
        ++known;
        checked.explanation.push_back(absl::StrCat("no worse than in the baseline: ",
                                                   PlaceOf(report_, report_.groups[part.group])));
        continue;
      }
      checked.culprits.push_back({part.group, Story(part.group)});
    }
    checked.outcome = !checked.culprits.empty() ? Outcome::kBroken
                      : known > 0               ? Outcome::kNoWorse
                                                : Outcome::kKept;
    checked.message =
        checked.culprits.empty() && known == 0
            ? absl::StrFormat("no stack leaks (as sure as %.2f)", checked.limit)
            : absl::StrCat(checked.culprits.size() + known,
                           checked.culprits.size() + known == 1 ? " stack leaks" : " stacks leak",
                           known == 0 ? "" : absl::StrCat(", ", known, " no worse than before"));
    result_.budgets.push_back(std::move(checked));
  }

  // It leaked in the baseline as fast as now.
  bool IsKnownLeak(size_t group) const {
    if (baseline_ == nullptr || known_[group].verdict != "leak") return false;
    const ReportGroup& now = report_.groups[group];
    const DiffSide& before = known_[group];
    if (now.bytes_per_request && before.bytes_per_request) {
      return !Worse(now.bytes_per_request->value, *before.bytes_per_request);
    }
    return !Worse(static_cast<double>(now.live_bytes), static_cast<double>(before.live_bytes));
  }

  void CheckStack(const StackBudget& stack) {
    double bytes = 0, growth = 0, bytes_before = 0, growth_before = 0;
    std::vector<size_t> groups;
    const auto sum = [&](const Report& report, double& live, double& rate,
                         std::vector<size_t>* found) {
      for (size_t i = 0; i < report.groups.size(); ++i) {
        const ReportGroup& group = report.groups[i];
        if (!MatchesStack(report, group, stack)) continue;
        live += static_cast<double>(group.live_bytes);
        if (group.bytes_per_request) rate += std::max(0.0, group.bytes_per_request->value);
        if (found != nullptr) found->push_back(i);
      }
    };
    sum(report_, bytes, growth, &groups);
    if (baseline_ != nullptr) sum(*baseline_, bytes_before, growth_before, nullptr);
    const auto check = [&](const char* what, const std::optional<double>& limit, double value,
                           double before) {
      if (!limit) return;
      CheckedBudget checked;
      checked.id = absl::StrCat("stack:", stack.name);
      checked.title = absl::StrCat(what, " ", stack.name);
      checked.value = value;
      checked.limit = *limit;
      if (baseline_ != nullptr) checked.baseline = before;
      checked.message = absl::StrCat(Bytes(value), ", allowed ", Bytes(*limit));
      if (groups.empty()) checked.explanation.emplace_back("no stack matches");
      if (value > *limit) {
        const bool no_worse = baseline_ != nullptr && !Worse(value, before);
        checked.outcome = no_worse ? Outcome::kNoWorse : Outcome::kBroken;
        if (no_worse) absl::StrAppend(&checked.message, "; the baseline had ", Bytes(before));
      }
      if (checked.outcome == Outcome::kBroken) {
        for (const size_t group : groups) checked.culprits.push_back({group, Story(group)});
      }
      result_.budgets.push_back(std::move(checked));
    };
    check("bytes of", stack.bytes, bytes, bytes_before);
    check("growth per request of", stack.growth_per_request, growth, growth_before);
  }

  static bool MatchesStack(const Report& report, const ReportGroup& group,
                           const StackBudget& stack) {
    return std::any_of(group.frames.begin(), group.frames.end(), [&](uint32_t index) {
      const ReportFrame& frame = report.frames[index];
      return (stack.function.empty() || PatternMatches(stack.function, frame.function)) &&
             (stack.module.empty() || PatternMatches(stack.module, frame.module));
    });
  }

  // "leak (0.95 sure) in LeakPrompt (leaks.cc:31): keeps 1.2 MiB in 120 blocks, grows by ...".
  std::string Story(size_t index) const {
    const ReportGroup& group = report_.groups[index];
    std::string story = absl::StrFormat(
        "%s (%.2f sure) in %s: keeps %s in %s %s", group.verdict, group.confidence,
        PlaceOf(report_, group), Bytes(static_cast<double>(group.live_bytes)),
        FormatCount(group.live_blocks), group.live_blocks == 1 ? "block" : "blocks");
    if (group.bytes_per_request) {
      absl::StrAppend(&story, ", grows by ", Bytes(group.bytes_per_request->value), " per request");
    } else if (group.bytes_per_hour) {
      absl::StrAppend(&story, ", grows by ", Bytes(group.bytes_per_hour->value), " per hour");
    }
    return story;
  }

  void AddNotes() {
    const ReportCoverage& coverage = report_.coverage;
    if (report_.requests == 0) {
      result_.notes.emplace_back(
          "no requests are marked: nothing is known per request (see `soak`, or write "
          "marks.jsonl)");
    }
    if (!coverage.complete) {
      result_.notes.push_back(absl::StrCat(
          "the trace is not complete: ", FormatCount(coverage.lost_events), " events lost, ",
          coverage.damaged_chunks, " damaged chunks, ", coverage.truncated_traces,
          " traces cut short, ", coverage.unreadable_traces, " unreadable"));
    }
    for (const SuppressionUse& use : result_.suppressions) {
      if (use.stacks == 0) {
        result_.notes.push_back(absl::StrCat("suppression not used: ", use.text));
      }
    }
  }

  const Report& report_;
  const Budgets& budgets_;
  const std::vector<Suppression>& suppressions_;
  const Report* baseline_;
  std::vector<bool> suppressed_;
  Measurements measured_;
  Measurements before_;
  std::vector<DiffSide> known_;  // by group, the baseline's
  CheckResult result_;
};

}  // namespace

const char* OutcomeName(Outcome outcome) {
  switch (outcome) {
    case Outcome::kKept:
      return "kept";
    case Outcome::kBroken:
      return "broken";
    case Outcome::kNoWorse:
      return "no-worse";
    case Outcome::kNotMeasured:
      break;
  }
  return "not-measured";
}

bool CheckResult::Broken() const {
  return std::any_of(budgets.begin(), budgets.end(),
                     [](const CheckedBudget& one) { return one.outcome == Outcome::kBroken; });
}

CheckResult Check(const Report& report, const Budgets& budgets,
                  const std::vector<Suppression>& suppressions, const Report* baseline) {
  return Checker(report, budgets, suppressions, baseline).Run();
}

}  // namespace ollamatrace
