#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/load_history.h"
#include "analyzer/cli/output_file.h"
#include "analyzer/cli/report_arguments.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/html/html_renderer.h"
#include "analyzer/report/diff_reports.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview html [OPTION...] PATH... -o FILE\n"
    "\n"
    "The report as one file that a browser opens without a server and without a network: what "
    "keeps the memory, as a flame\n"
    "graph, over time, as a table; processes, accounting, fragmentation. With --baseline also what "
    "changed since an earlier\n"
    "session.\n"
    "\n"
    "Example: ollama-leakview html ollamatrace/ -o report.html\n";

constexpr uint64_t kPoints = 240;  // of the timeline

struct HtmlArguments {
  ReportArguments report;
  std::string output;
  std::string baseline;
};

std::vector<Option> Options(HtmlArguments& arguments) {
  std::vector<Option> options = ReportOptions(arguments.report);
  std::erase_if(options, [](const Option& option) {
    return option.name == "--format" || option.name == "--frames" || option.name == "--color" ||
           option.name == "-v, --verbose";
  });
  const auto set = [](std::string& text) {
    return [&text](absl::string_view value) {
      if (value.empty()) return absl::InvalidArgumentError("empty");
      text = std::string(value);
      return absl::OkStatus();
    };
  };
  options.insert(options.begin(),
                 {{"-o, --output", "FILE", "the page's file", set(arguments.output)},
                  {"--baseline", "PATH",
                   "a trace or session folder of earlier: what changed since, as `diff` tells it",
                   set(arguments.baseline)}});
  for (Option& option : options) {
    if (option.name == "--top") option.help = "at most N groups; 0: all (default: all)";
  }
  return options;
}

absl::Status Parse(const std::vector<std::string>& words, HtmlArguments& arguments) {
  ReportArguments& report = arguments.report;
  absl::Status status =
      ParseArguments(words, Options(arguments), /*stop_at_positional=*/false, report.paths);
  if (!status.ok() || report.help) return status;
  if (report.paths.empty()) {
    return absl::InvalidArgumentError(
        "no trace given; name a trace or a session folder (see --help)");
  }
  if (arguments.output.empty()) {
    return absl::InvalidArgumentError("no file to write to; give -o FILE (see --help)");
  }
  report.query.top = report.top.value_or(0);
  return absl::OkStatus();
}

class Command {
 public:
  explicit Command(HtmlArguments arguments) : arguments_(std::move(arguments)) {}

  int Run() {
    ReportQuery query = arguments_.report.query;
    query.timeline_points = kPoints;
    query.include_freed = true;
    const std::optional<Report> report = Read(arguments_.report.paths, query);
    if (!report) return exit_code_;
    std::optional<ReportDiff> diff;
    if (!arguments_.baseline.empty()) {
      ReportQuery merged = arguments_.report.query;
      merged.merge_processes = true;
      merged.top = 0;
      const std::optional<Report> before = Read({arguments_.baseline}, merged);
      if (!before) return exit_code_;
      const std::optional<Report> after = Read(arguments_.report.paths, merged);
      if (!after) return exit_code_;
      diff = DiffReports(*before, *after);
    }
    Write(*report, diff ? &*diff : nullptr);
    return exit_code_;
  }

 private:
  std::optional<Report> Read(const std::vector<std::string>& paths, const ReportQuery& query) {
    Progress progress(arguments_.report.progress);
    LoadOptions options;
    options.since = arguments_.report.since;
    options.until = arguments_.report.until;
    options.by_thread = query.group_by == GroupBy::kThread;
    options.keep_layout = true;
    options.progress = [&](absl::string_view what, uint64_t done, uint64_t in_all) {
      progress.Show(what, done, in_all);
    };
    const absl::StatusOr<LoadedSession> loaded = LoadHistory(paths, options);
    if (!loaded.ok()) {
      PrintError(loaded.status().message());
      exit_code_ = kExitUsage;
      return std::nullopt;
    }
    for (const absl::Status& error : loaded->errors) {
      PrintError(error.message());
      exit_code_ = kExitUnreadable;
    }
    if (loaded->history.processes.empty()) {
      exit_code_ = kExitUnreadable;
      return std::nullopt;
    }
    SymbolizerSource symbols(WithNamesBeside(arguments_.report.symbols, paths));
    Report report = BuildReport(
        loaded->history, query, symbols,
        [&](uint64_t done, uint64_t in_all) { progress.Show("naming stacks", done, in_all); });
    report.title = paths.front();
    return report;
  }

  void Write(const Report& report, const ReportDiff* diff) {
    const absl::Status status = WriteOutputFile(
        arguments_.output, [&](const OutputSink& sink) { return RenderHtml(report, diff, sink); });
    if (status.ok()) return;
    PrintError(absl::StrCat("html: ", status.message()));
    exit_code_ = kExitUnreadable;
  }

  HtmlArguments arguments_;
  int exit_code_ = kExitFine;
};

}  // namespace

Manual HtmlManual() {
  HtmlArguments defaults;
  return MakeManual(kHelp, Options(defaults));
}

int HtmlCommand(const std::vector<std::string>& words) {
  HtmlArguments arguments;
  if (const absl::Status status = Parse(words, arguments); !status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (arguments.report.help) return PrintHelp(HtmlManual());
  return Command(std::move(arguments)).Run();
}

}  // namespace ollamatrace
