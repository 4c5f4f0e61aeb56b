#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/load_history.h"
#include "analyzer/cli/report_arguments.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/report/diff_reports.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview diff [OPTION...] A B\n"
    "       ollama-leakview diff [OPTION...] --from=TIME [--to=TIME] PATH\n"
    "\n"
    "What B keeps more than A: two traces or session folders (of a program and of its next build, "
    "say), or one session at\n"
    "two moments. Stacks are matched by the names of functions and of modules, not by address or "
    "line; where no stack is\n"
    "the same, by the function to look at and the callers that are. Processes of the same program "
    "count together.\n"
    "\n"
    "Example: ollama-leakview diff --min-bytes=64K before/ after/\n"
    "         ollama-leakview diff --from=load#1 --to=load#3 ollamatrace/\n";

struct DiffArguments {
  ReportArguments report;
  std::string from;
  std::string to;
};

std::vector<Option> Options(DiffArguments& arguments) {
  std::vector<Option> options = ReportOptions(arguments.report);
  // Both sides as they are at their ends, and a program's processes together.
  std::erase_if(options, [](const Option& option) {
    return option.name == "--since" || option.name == "--until" ||
           option.name == "--merge-processes" || option.name == "--group-by";
  });
  const auto set = [](std::string& text) {
    return [&text](absl::string_view value) {
      if (value.empty()) return absl::InvalidArgumentError("empty");
      text = std::string(value);
      return absl::OkStatus();
    };
  };
  options.insert(
      options.end() - 1,
      {{"--from", "TIME",
        "A is the session at TIME: since its start (90s, +10m, 1.5h), or a mark (load#2)",
        set(arguments.from)},
       {"--to", "TIME", "B is the session at TIME (default: its end)", set(arguments.to)}});
  return options;
}

absl::Status Parse(const std::vector<std::string>& words, DiffArguments& arguments) {
  ReportArguments& report = arguments.report;
  absl::Status status =
      ParseArguments(words, Options(arguments), /*stop_at_positional=*/false, report.paths);
  if (!status.ok() || report.help) return status;
  if (report.paths.size() == 1 && arguments.from.empty()) {
    return absl::InvalidArgumentError(
        "one path: give a second one, or --from (and --to) for two moments of it");
  }
  if (report.paths.size() == 2 && !(arguments.from.empty() && arguments.to.empty())) {
    return absl::InvalidArgumentError("--from and --to are for one path, two were given");
  }
  if (report.paths.empty() || report.paths.size() > 2) {
    return absl::InvalidArgumentError(
        absl::StrCat("diff takes one or two paths, not ", report.paths.size(), " (see --help)"));
  }
  return absl::OkStatus();
}

// Of one side. Errors are printed; they set `exit_code`.
Report Read(const DiffArguments& arguments, const std::string& path, const std::string& until,
            int& exit_code) {
  Progress progress(arguments.report.progress);
  LoadOptions options;
  options.until = until;
  options.progress = [&](absl::string_view what, uint64_t done, uint64_t in_all) {
    progress.Show(what, done, in_all);
  };
  const absl::StatusOr<LoadedSession> loaded = LoadHistory({path}, options);
  if (!loaded.ok()) {
    PrintError(loaded.status().message());
    exit_code = kExitUsage;
    return {};
  }
  for (const absl::Status& error : loaded->errors) {
    PrintError(error.message());
    exit_code = kExitUnreadable;
  }
  SymbolizerSource symbols(WithNamesBeside(arguments.report.symbols, {path}));
  ReportQuery query = arguments.report.query;
  query.merge_processes = true;
  Report report = BuildReport(loaded->history, query, symbols);
  report.title = until.empty() ? path : absl::StrCat(path, " at ", until);
  if (report.until) report.duration = std::min(report.duration, *report.until);
  return report;
}

int Finish(StandardOutput& output, int exit_code) {
  if (const absl::Status status = output.Finish(); !status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  return exit_code;
}

}  // namespace

Manual DiffManual() {
  DiffArguments defaults;
  return MakeManual(kHelp, Options(defaults));
}

int DiffCommand(const std::vector<std::string>& words) {
  DiffArguments arguments;
  if (const absl::Status status = Parse(words, arguments); !status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  const ReportArguments& asked = arguments.report;
  if (asked.help) return PrintHelp(DiffManual());
  StandardOutput output;
  int exit_code = kExitFine;
  const Report before = Read(arguments, asked.paths.front(), arguments.from, exit_code);
  if (exit_code == kExitUsage) return exit_code;
  const Report after = Read(arguments, asked.paths.back(), arguments.to, exit_code);
  if (exit_code == kExitUsage) return exit_code;
  if (before.processes.empty() && after.processes.empty()) {
    return exit_code == kExitFine ? kExitUnreadable : exit_code;
  }

  const ReportDiff diff = DiffReports(before, after);
  const OutputSink sink = [&](absl::string_view text) { output.Write(text); };
  if (asked.format == Format::kJson) {
    RenderDiffJson(diff, asked.top.value_or(0), sink);
  } else {
    RenderDiff(diff, asked.top.value_or(20), asked.text, sink);
  }
  return Finish(output, exit_code);
}

}  // namespace ollamatrace
