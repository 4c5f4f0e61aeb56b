#include "analyzer/cli/run_report.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/load_history.h"
#include "analyzer/cli/report_arguments.h"
#include "analyzer/cli/terminal.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kJsonPoints = 240;  // of a timeline

absl::StatusOr<LoadedSession> Load(const ReportArguments& arguments, bool keep_layout,
                                   Progress& progress) {
  LoadOptions options;
  options.since = arguments.since;
  options.until = arguments.until;
  options.by_thread = arguments.query.group_by == GroupBy::kThread;
  options.keep_layout = keep_layout;
  options.progress = [&](absl::string_view what, uint64_t done, uint64_t in_all) {
    progress.Show(what, done, in_all);
  };
  return LoadHistory(arguments.paths, options);
}

}  // namespace

Manual ManualWithReportOptions(absl::string_view help) {
  ReportArguments defaults;
  return MakeManual(help, ReportOptions(defaults));
}

int RunReport(const std::vector<std::string>& words, const ReportVerb& verb) {
  ReportArguments arguments;
  if (const absl::Status status = ParseReportArguments(words, arguments); !status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (arguments.help) return PrintHelp(verb.manual());
  arguments.query.order = verb.order;
  if (verb.timeline_points != 0) {
    arguments.query.timeline_points =
        arguments.format == Format::kText ? verb.timeline_points : kJsonPoints;
  }

  absl::StatusOr<LoadedSession> loaded;
  Report report;
  {
    Progress progress(arguments.progress);
    loaded = Load(arguments, verb.keep_layout, progress);
    if (loaded.ok() && !loaded->history.processes.empty()) {
      SymbolizerSource symbols(WithNamesBeside(arguments.symbols, arguments.paths));
      report = BuildReport(
          loaded->history, arguments.query, symbols,
          [&](uint64_t done, uint64_t in_all) { progress.Show("naming stacks", done, in_all); });
    }
  }
  if (!loaded.ok()) {
    PrintError(loaded.status().message());
    return kExitUsage;
  }
  for (const absl::Status& error : loaded->errors) PrintError(error.message());
  if (loaded->history.processes.empty()) return kExitUnreadable;
  StandardOutput output;
  const OutputSink sink = [&](absl::string_view text) { output.Write(text); };
  if (arguments.format == Format::kJson) {
    RenderJson(report, sink);
  } else {
    verb.render(report, arguments.text, sink);
  }
  if (const absl::Status status = output.Finish(); !status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  return loaded->errors.empty() ? kExitFine : kExitUnreadable;
}

}  // namespace ollamatrace
