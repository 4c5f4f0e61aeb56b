#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/load_history.h"
#include "analyzer/cli/output_file.h"
#include "analyzer/cli/report_arguments.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/convert/convert_session.h"
#include "analyzer/export/export_names.h"
#include "analyzer/export/exporters.h"
#include "analyzer/report/compressed_sink.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview export --format=FORMAT [OPTION...] PATH... -o FILE\n"
    "\n"
    "The report for other tools. FILE \"-\" is standard output; a name that ends in .zst or .gz is "
    "compressed.\n"
    "  pprof       go tool pprof, Pyroscope: inuse and alloc, space and objects; labels process, "
    "thread, domain, verdict\n"
    "  folded      flamegraph.pl, inferno: a stack and its weight a line (--metric)\n"
    "  speedscope  speedscope.app: a profile a metric\n"
    "  heaptrack   heaptrack_print, heaptrack_gui: the live blocks\n"
    "  perfetto    ui.perfetto.dev, chrome://tracing: live bytes over time, phases\n"
    "  csv         a row a group\n"
    "  jsonl       a JSON object a line: session, processes, groups, samples (DuckDB, ClickHouse, "
    "Spark)\n"
    "  sqlite      a database: session, process, grp, frame, grp_frame, sample\n"
    "  trace       a session of mode survivors, FILE is its folder: what was freed becomes "
    "counters, "
    "the report's\n"
    "              bytes, groups, counts and peaks stay\n"
    "\n"
    "Example: ollama-leakview export --format=pprof -o heap.pb.gz ollamatrace/ && go tool pprof "
    "-top heap.pb.gz\n";

constexpr uint64_t kPoints = 240;  // of the timeline

using Exporter = void (*)(const Report&, ExportMetric, const OutputSink&);

struct ExportFormat {
  const char* name;
  bool compresses;  // by itself
  Exporter write;   // nullptr: to a path of its own
};

constexpr ExportFormat kFormats[] = {
    {"pprof", true,
     [](const Report& report, ExportMetric, const OutputSink& sink) { ExportPprof(report, sink); }},
    {"folded", false, ExportFolded},
    {"speedscope", false,
     [](const Report& report, ExportMetric, const OutputSink& sink) {
       ExportSpeedscope(report, sink);
     }},
    {"heaptrack", false,
     [](const Report& report, ExportMetric, const OutputSink& sink) {
       ExportHeaptrack(report, sink);
     }},
    {"perfetto", false,
     [](const Report& report, ExportMetric, const OutputSink& sink) {
       ExportPerfetto(report, sink);
     }},
    {"csv", false,
     [](const Report& report, ExportMetric, const OutputSink& sink) { ExportCsv(report, sink); }},
    {"jsonl", false,
     [](const Report& report, ExportMetric, const OutputSink& sink) {
       RenderJsonLines(report, sink);
     }},
    {"sqlite", false, nullptr},
    {"trace", false, nullptr},
};

bool IsTrace(const ExportFormat& format) { return format.name == absl::string_view("trace"); }

struct ExportArguments {
  ReportArguments report;
  const ExportFormat* format = nullptr;
  ExportMetric metric = ExportMetric::kLiveBytes;
  std::string output;
};

template <typename Range, typename Name>
std::vector<std::string> NameList(const Range& range, const Name& name) {
  std::vector<std::string> names;
  for (const auto& one : range) names.push_back(name(one));
  return names;
}
template <typename Range, typename Name>
std::string Names(const Range& range, const Name& name) {
  return absl::StrJoin(NameList(range, name), ", ");
}

std::vector<Option> Options(ExportArguments& arguments) {
  std::vector<Option> options = ReportOptions(arguments.report);
  std::erase_if(options, [](const Option& option) {
    return option.name == "--format" || option.name == "--frames" || option.name == "--color" ||
           option.name == "-v, --verbose";
  });
  for (Option& option : options) {
    if (option.name == "--top") option.help = "at most N groups; 0: all (default: all)";
  }
  options.insert(
      options.begin(),
      {{"--format", "FORMAT", "one of the above",
        [&](absl::string_view value) {
          for (const ExportFormat& format : kFormats) {
            if (format.name == value) arguments.format = &format;
          }
          if (arguments.format != nullptr && arguments.format->name == value) {
            return absl::OkStatus();
          }
          return absl::InvalidArgumentError(absl::StrCat(
              "not known; give ", Names(kFormats, [](const auto& one) { return one.name; })));
        },
        NameList(kFormats, [](const auto& one) { return one.name; })},
       {"-o, --output", "FILE", "the file to write (trace: the folder to make)",
        [&](absl::string_view value) {
          if (value.empty()) return absl::InvalidArgumentError("empty");
          arguments.output = std::string(value);
          return absl::OkStatus();
        }},
       {"--metric", "NAME",
        "folded: live_bytes (the default), live_blocks, peak_bytes, growth_bytes, "
        "allocated_bytes,\n"
        "allocations",
        [&](absl::string_view value) {
          for (const ExportMetric metric : kExportMetrics) {
            if (value != ExportMetricName(metric)) continue;
            arguments.metric = metric;
            return absl::OkStatus();
          }
          return absl::InvalidArgumentError(
              absl::StrCat("not known; give ", Names(kExportMetrics, ExportMetricName)));
        },
        NameList(kExportMetrics, ExportMetricName)}});
  return options;
}

absl::Status Parse(const std::vector<std::string>& words, ExportArguments& arguments) {
  ReportArguments& report = arguments.report;
  absl::Status status =
      ParseArguments(words, Options(arguments), /*stop_at_positional=*/false, report.paths);
  if (!status.ok() || report.help) return status;
  if (arguments.format == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("no format; give --format=",
                     absl::StrJoin(kFormats, "|", [](std::string* out, const ExportFormat& format) {
                       out->append(format.name);
                     })));
  }
  if (report.paths.empty()) {
    return absl::InvalidArgumentError(
        "no trace given; name a trace or a session folder (see --help)");
  }
  if (arguments.output.empty()) {
    return absl::InvalidArgumentError("no file to write to; give -o FILE (see --help)");
  }
  if (arguments.format->write == nullptr && arguments.output == "-") {
    return absl::InvalidArgumentError(
        absl::StrCat(arguments.format->name, " needs a name: standard output has none"));
  }
  const ReportQuery& query = report.query;
  if (IsTrace(*arguments.format) &&
      (!query.processes.empty() || !query.modules.empty() || !query.functions.empty() ||
       !query.domains.empty() || query.min_bytes != 0 || report.top || !report.since.empty() ||
       !report.until.empty())) {
    return absl::InvalidArgumentError(
        "--format=trace takes no filters: it converts all; filter its report");
  }
  report.query.top = report.top.value_or(0);
  report.query.timeline_points = kPoints;
  report.query.include_freed = true;
  return absl::OkStatus();
}

// Through a compressor where the name asks for one.
absl::Status WriteExport(const ExportArguments& arguments, const Report& report) {
  const ExportFormat& format = *arguments.format;
  if (format.write == nullptr) {
    return WriteOutputPath(arguments.output,
                           [&](const std::string& path) { return ExportSqlite(report, path); });
  }
  std::optional<Compression> compression;
  if (!format.compresses && absl::EndsWith(arguments.output, ".gz")) {
    compression = Compression::kGzip;
  } else if (!format.compresses && absl::EndsWith(arguments.output, ".zst")) {
    compression = Compression::kZstd;
  }
  return WriteOutputFile(arguments.output, [&](const OutputSink& sink) {
    if (!compression) {
      format.write(report, arguments.metric, sink);
      return absl::OkStatus();
    }
    CompressedSink packed(*compression, sink);
    format.write(report, arguments.metric, [&](absl::string_view text) { packed.Write(text); });
    packed.Finish();
    return absl::OkStatus();
  });
}

int Convert(const ExportArguments& arguments) {
  const Session session = FindSession(arguments.report.paths);
  for (const absl::Status& error : session.errors) PrintError(error.message());
  if (session.traces.empty()) return kExitUnreadable;
  absl::Status status;
  {
    Progress progress(arguments.report.progress);
    status = ConvertSession(session, arguments.output,
                            [&](absl::string_view what, uint64_t done, uint64_t in_all) {
                              progress.Show(what, done, in_all);
                            });
  }
  if (!status.ok()) {
    PrintError(absl::StrCat("export: ", status.message()));
    return kExitUnreadable;
  }
  return session.errors.empty() ? kExitFine : kExitUnreadable;
}

int Run(const ExportArguments& arguments) {
  int exit_code = kExitFine;
  Report report;
  {
    Progress progress(arguments.report.progress);
    LoadOptions options;
    options.since = arguments.report.since;
    options.until = arguments.report.until;
    options.by_thread = arguments.report.query.group_by == GroupBy::kThread;
    options.progress = [&](absl::string_view what, uint64_t done, uint64_t in_all) {
      progress.Show(what, done, in_all);
    };
    const absl::StatusOr<LoadedSession> loaded = LoadHistory(arguments.report.paths, options);
    if (!loaded.ok()) {
      PrintError(loaded.status().message());
      return kExitUsage;
    }
    for (const absl::Status& error : loaded->errors) {
      PrintError(error.message());
      exit_code = kExitUnreadable;
    }
    if (loaded->history.processes.empty()) return kExitUnreadable;
    SymbolizerSource symbols(WithNamesBeside(arguments.report.symbols, arguments.report.paths));
    report = BuildReport(
        loaded->history, arguments.report.query, symbols,
        [&](uint64_t done, uint64_t in_all) { progress.Show("naming stacks", done, in_all); });
  }
  report.title = arguments.report.paths.front();
  if (report.processes.empty()) {
    PrintError("export: no process passes the filters");
    return kExitUsage;
  }
  if (const absl::Status status = WriteExport(arguments, report); !status.ok()) {
    PrintError(absl::StrCat("export: ", status.message()));
    return kExitUnreadable;
  }
  return exit_code;
}

}  // namespace

Manual ExportManual() {
  ExportArguments defaults;
  return MakeManual(kHelp, Options(defaults));
}

int ExportCommand(const std::vector<std::string>& words) {
  ExportArguments arguments;
  if (const absl::Status status = Parse(words, arguments); !status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (arguments.report.help) return PrintHelp(ExportManual());
  return IsTrace(*arguments.format) ? Convert(arguments) : Run(arguments);
}

}  // namespace ollamatrace
