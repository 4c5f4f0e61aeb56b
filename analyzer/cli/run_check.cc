#include "analyzer/cli/run_check.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "analyzer/cli/load_history.h"
#include "analyzer/gate/check.h"
#include "analyzer/report/build_report.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kTimelinePoints = 400;

struct Loaded {
  Report report;
  bool whole = true;  // nothing that was named is unreadable
  bool known = false;
};

Loaded Load(const std::vector<std::string>& paths, const CheckArguments& arguments) {
  Progress progress;
  LoadOptions options;
  options.keep_layout = arguments.budgets[BudgetKind::kFragmentation].has_value();
  options.progress = [&](absl::string_view what, uint64_t done, uint64_t in_all) {
    progress.Show(what, done, in_all);
  };
  const absl::StatusOr<LoadedSession> session = LoadHistory(paths, options);
  Loaded loaded;
  if (!session.ok()) {  // cannot be: no window was asked for
    PrintError(session.status().message());
    loaded.whole = false;
    return loaded;
  }
  for (const absl::Status& error : session->errors) {
    PrintError(error.message());
    loaded.whole = false;
  }
  if (session->history.processes.empty()) {
    loaded.whole = false;
    return loaded;
  }
  ReportQuery query;
  query.merge_processes = true;
  query.processes = arguments.processes;
  query.timeline_points = kTimelinePoints;
  SymbolizerSource symbols(WithNamesBeside(arguments.symbols, paths));
  loaded.report = BuildReport(
      session->history, query, symbols,
      [&](uint64_t done, uint64_t in_all) { progress.Show("naming stacks", done, in_all); });
  loaded.known = true;
  return loaded;
}

absl::Status WriteFile(const std::string& path, const std::string& text) {
  std::ofstream file(path, std::ios::binary | std::ios::trunc);
  file << text;
  file.flush();
  if (!file) {
    return absl::UnavailableError(
        absl::StrCat(path, ": cannot be written: ", strerror(errno != 0 ? errno : EIO)));
  }
  return absl::OkStatus();
}

}  // namespace

int RunCheck(const std::vector<std::string>& paths, const CheckArguments& arguments,
             StandardOutput& output) {
  const Loaded loaded = Load(paths, arguments);
  if (!loaded.known) return kExitUnreadable;
  if (loaded.report.processes.empty()) {
    PrintError(absl::StrCat("no process is named ", absl::StrJoin(arguments.processes, " or "),
                            " in ", absl::StrJoin(paths, ", ")));
    return kExitUsage;
  }
  Loaded baseline;
  if (!arguments.baseline.empty()) {
    baseline = Load({arguments.baseline}, arguments);
    if (!baseline.whole || !baseline.known) return kExitUnreadable;
    // What is missing in it would look as if it had got worse.
    const ReportCoverage& coverage = baseline.report.coverage;
    if (coverage.truncated_traces > 0 || coverage.damaged_chunks > 0 ||
        coverage.unreadable_traces > 0) {
      PrintError(absl::StrCat(arguments.baseline,
                              ": the baseline is cut short or damaged; record it anew"));
      return kExitUnreadable;
    }
  }
  const CheckResult result = Check(loaded.report, arguments.budgets, arguments.suppressions,
                                   baseline.known ? &baseline.report : nullptr);
  const CheckView view = {result, loaded.report, absl::StrJoin(paths, " "), arguments.source_root,
                          OLLAMATRACE_VERSION};
  int exit_code = result.Broken() ? kExitBroken : kExitFine;
  if (!loaded.whole) exit_code = kExitUnreadable;
  output.Write(arguments.format->render(view));
  for (const auto& [format, path] : arguments.writes) {
    if (const absl::Status status = WriteFile(path, format->render(view)); !status.ok()) {
      PrintError(status.message());
      exit_code = kExitUnreadable;
    }
  }
  return exit_code;
}

}  // namespace ollamatrace
