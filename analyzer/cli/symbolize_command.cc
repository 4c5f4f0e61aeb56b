#include <algorithm>
#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/load_history.h"
#include "analyzer/cli/symbol_options.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/load/session.h"
#include "analyzer/report/frame_table.h"
#include "analyzer/report/symbol_source.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview symbolize [OPTION...] PATH...\n"
    "\n"
    "Stores the names of functions, files and lines that traces need beside them, in a folder "
    "\"symbols\": a session that is\n"
    "copied with it is read anywhere, without the programs and libraries that it is about. Where "
    "these are not on this\n"
    "machine, --sysroot says where: of a container that runs, /proc/PID/root. Names that are "
    "stored already stay; a second\n"
    "run adds what it finds.\n"
    "\n"
    "Example: ollama-leakview symbolize --sysroot=/proc/4711/root ollamatrace/\n"
    "         scp -r ollamatrace/ laptop: && ssh laptop ollama-leakview ollamatrace/\n";

struct SymbolizeArguments {
  bool help = false;
  bool progress = false;
  std::vector<std::string> paths;
  SymbolizerOptions symbols = StandardSymbols();
};

std::vector<Option> Options(SymbolizeArguments& arguments) {
  std::vector<Option> options = SymbolOptions(arguments.symbols);
  options.push_back({"--progress", "",
                     "tell on standard error how far long work is (default: when that is a "
                     "terminal)",
                     [&](absl::string_view) {
                       arguments.progress = true;
                       return absl::OkStatus();
                     }});
  options.push_back({"-h, --help", "", "this text", [&](absl::string_view) {
                       arguments.help = true;
                       return absl::OkStatus();
                     }});
  return options;
}

class Command {
 public:
  explicit Command(SymbolizeArguments arguments) : arguments_(std::move(arguments)) {}

  int Run() {
    const Session session = FindSession(arguments_.paths);
    for (const absl::Status& error : session.errors) Fail(error);
    std::map<std::string, std::vector<std::string>> folders;
    for (const TraceFile& trace : session.traces) {
      folders[std::filesystem::path(trace.path).parent_path().string()].push_back(trace.path);
    }
    for (const auto& [folder, traces] : folders) Store(folder, traces);
    if (const absl::Status status = output_.Finish(); !status.ok()) Fail(status);
    return exit_code_;
  }

 private:
  void Fail(const absl::Status& status) {
    PrintError(status.message());
    exit_code_ = kExitUnreadable;
  }

  void Store(const std::string& folder, const std::vector<std::string>& traces) {
    SymbolizerSource symbols(WithNamesBeside(arguments_.symbols, traces));
    FrameTable frames(symbols);
    if (!NameAll(traces, frames)) return;
    const std::string beside = NamesBeside(folder);
    if (const absl::Status status = symbols.StoreAnswers(beside); !status.ok()) return Fail(status);
    output_.Write(absl::StrCat("The names for ", FormatCount(traces.size()),
                               traces.size() == 1 ? " trace are in " : " traces are in ", beside,
                               "\n"));
    size_t without_lines = 0;
    for (const ReportModule& module : frames.Modules()) {
      if (module.state == "not-a-file") continue;
      if (module.symbols != "none") {
        ++without_lines;
        continue;
      }
      output_.Write(absl::StrCat(
          "  ", module.path, ": no names",
          module.message.empty() ? "" : absl::StrCat(" (", module.message, ")"), "\n"));
    }
    if (without_lines > 0) {
      output_.Write(absl::StrCat("  names without lines of ", FormatCount(without_lines),
                                 without_lines == 1 ? " module" : " modules",
                                 ": no debug files here (--debug-dir, DEBUGINFOD_URLS)\n"));
    }
  }

  // Every frame of every stack, of what was freed too.
  bool NameAll(const std::vector<std::string>& traces, FrameTable& frames) {
    Progress progress(arguments_.progress);
    LoadOptions options;
    options.progress = [&](absl::string_view what, uint64_t done, uint64_t in_all) {
      progress.Show(what, done, in_all);
    };
    const absl::StatusOr<LoadedSession> loaded = LoadHistory(traces, options);
    if (!loaded.ok()) {
      Fail(loaded.status());
      return false;
    }
    for (const absl::Status& error : loaded->errors) Fail(error);
    const std::vector<ProcessHistory>& processes = loaded->history.processes;
    uint64_t in_all = 0, done = 0;
    for (const ProcessHistory& process : processes) in_all += process.nodes.places();
    for (size_t i = 0; i < processes.size(); ++i) {
      for (size_t place = 0; place < processes[i].nodes.places(); ++place) {
        frames.NamePlace(i, processes[i], static_cast<StackNodes::Place>(place));
        if (++done % 1024 == 0) progress.Show("naming frames", done, in_all);
      }
    }
    return !processes.empty();
  }

  SymbolizeArguments arguments_;
  StandardOutput output_;
  int exit_code_ = kExitFine;
};

}  // namespace

Manual SymbolizeManual() {
  SymbolizeArguments defaults;
  return MakeManual(kHelp, Options(defaults));
}

int SymbolizeCommand(const std::vector<std::string>& words) {
  SymbolizeArguments arguments;
  absl::Status status =
      ParseArguments(words, Options(arguments), /*stop_at_positional=*/false, arguments.paths);
  if (status.ok() && !arguments.help && arguments.paths.empty()) {
    status =
        absl::InvalidArgumentError("no trace given; name a trace or a session folder (see --help)");
  }
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (arguments.help) return PrintHelp(SymbolizeManual());
  return Command(std::move(arguments)).Run();
}

}  // namespace ollamatrace
