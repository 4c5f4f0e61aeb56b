#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/run_check.h"
#include "analyzer/cli/soak_arguments.h"
#include "analyzer/cli/target_program.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/cli/tracer_library.h"
#include "analyzer/soak/soak.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview soak [OPTION...] --model=NAME -- CMD [ARG...]   starts the server "
    "under "
    "the library\n"
    "       ollama-leakview soak [OPTION...] --model=NAME --url=URL -o DIR  one that runs under "
    "it\n"
    "\n"
    "Drives a server: loads the model, warms up, sends requests, waits, unloads; marks all of it "
    "in "
    "the session, then holds\n"
    "that against budgets, as `check` does, whose options it takes. A server that dies, hangs or "
    "answers errors is the\n"
    "result, with what it said. The port is given to `ollama serve` as OLLAMA_HOST and to "
    "llama-server as --port. Figures:\n"
    "soak.json in the session's folder, and the server's output in server.log.\n"
    "Exit code 0: fine; 1: a budget is broken, or the server failed; 2: usage, or no server to "
    "drive; 3: unreadable trace.\n"
    "\n"
    "Example: ollama-leakview soak --model=tiny --duration=10min --workers=4 --stream -o trace -- "
    "ollama serve\n"
    "         ollama-leakview soak --server=llama-server --requests=500 -- llama-server -m "
    "tiny.gguf\n";

std::atomic<int> g_interrupts{0};
void OnInterrupt(int) {
  // Whoever is in a hurry gets out.
  if (g_interrupts.fetch_add(1) >= 2) _exit(130);
}

int Finish(StandardOutput& output, int exit_code) {
  if (const absl::Status status = output.Finish(); !status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  return exit_code;
}

// What is to be started, under the library.
absl::Status PrepareCommand(SoakArguments& arguments) {
  const char* path = getenv("PATH");
  const absl::StatusOr<std::string> program = FindProgram(
      arguments.command.front(), path == nullptr ? "/usr/local/bin:/usr/bin:/bin" : path);
  if (!program.ok()) return program.status();
  const absl::StatusOr<std::string> library = FindTracerLibrary();
  if (!library.ok()) return library.status();
  if (absl::Status status = CheckPreloadable(*program); !status.ok()) return status;
  ServerCommand& command = arguments.soak.target.command;
  command.program = *program;
  command.arguments.assign(arguments.command.begin() + 1, arguments.command.end());
  command.environment = {{"LD_PRELOAD", PreloadWith(*library)},
                         {"OLLAMATRACE_DIR", arguments.soak.session}};
  if (!arguments.mode.empty()) command.environment.emplace_back("OLLAMATRACE_MODE", arguments.mode);
  command.log = arguments.soak.session + "/server.log";
  return absl::OkStatus();
}

}  // namespace

Manual SoakManual() {
  SoakArguments defaults;
  return MakeManual(kHelp, SoakOptionTable(defaults));
}

int SoakCommand(const std::vector<std::string>& words) {
  SoakArguments arguments;
  absl::Status status = ParseSoakArguments(words, arguments);
  if (status.ok() && arguments.help) return PrintHelp(SoakManual());
  StandardOutput output;
  SoakOptions& soak = arguments.soak;
  if (soak.session.empty()) soak.session = absl::StrCat("ollamatrace.soak.", getpid());
  soak.session = AbsolutePath(soak.session);
  if (status.ok() && arguments.run_check) {
    status = FinishCheckArguments({soak.session}, arguments.check);
  }
  if (status.ok() && !arguments.command.empty()) status = PrepareCommand(arguments);
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }

  struct sigaction action = {};
  action.sa_handler = OnInterrupt;
  sigaction(SIGINT, &action, nullptr);
  sigaction(SIGTERM, &action, nullptr);
  soak.interrupted = [] { return g_interrupts.load() > 0; };
  absl::StatusOr<SoakResult> result;
  {
    Progress progress;
    result = RunSoak(soak, [&](const std::string& text) { progress.Show(text); });
  }
  if (!result.ok()) {
    PrintError(result.status().message());
    return kExitUsage;
  }
  const bool well = result->outcome == SoakResult::Outcome::kDone;
  if (!well) PrintError(absl::StrCat(SoakOutcomeName(result->outcome), ": ", result->evidence));
  std::ofstream(soak.session + "/soak.json") << SoakAsJson(*result);
  // Another format is that of the check: it stands alone.
  const bool text = arguments.check.format == FindCheckFormat("text");
  if (text || !arguments.run_check) output.Write(SoakAsText(*result));
  int exit_code = well ? kExitFine : kExitBroken;
  if (arguments.run_check) {
    if (text) output.Write("\n");
    const int checked = RunCheck({soak.session}, arguments.check, output);
    if (checked != kExitFine) exit_code = checked;
  }
  return Finish(output, exit_code);
}

}  // namespace ollamatrace
