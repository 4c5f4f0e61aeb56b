#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/terminal.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview PATH...                    the report of traces or session folders\n"
    "       ollama-leakview report [OPTION...] PATH... the same, with options\n"
    "       ollama-leakview leaks [OPTION...] PATH...  the stacks that look like leaks\n"
    "       ollama-leakview frag [OPTION...] PATH...   what the heap keeps unused, and why\n"
    "       ollama-leakview diff [OPTION...] A B       what B keeps more than A, build against "
    "build\n"
    "       ollama-leakview timeline [OPTION...] PATH... live bytes over time, phases and load "
    "cycles\n"
    "       ollama-leakview html [OPTION...] PATH... -o FILE  one page to look at, offline\n"
    "       ollama-leakview scan PID                   which blocks of a process nothing points "
    "to\n"
    "       ollama-leakview export [OPTION...] PATH... -o FILE  for pprof, speedscope, SQLite, "
    "...\n"
    "       ollama-leakview check [OPTION...] PATH...  holds a session against budgets, for CI\n"
    "       ollama-leakview soak [OPTION...] -- CMD    drives a server through its phases, then "
    "checks\n"
    "       ollama-leakview record [OPTION...] -- CMD  runs a command under the library\n"
    "       ollama-leakview VERB --help | --version\n"
    "\n"
    "Example: ollama-leakview record -o /tmp/trace -- ollama serve\n"
    "         ollama-leakview /tmp/trace\n"
    "\n"
    "Exit code 0: fine; 1: a budget is broken (check, soak); 2: usage; 3: input that cannot be read "
    "(what could be read was "
    "reported).\n";

struct Verb {
  const char* name;
  int (*run)(const std::vector<std::string>& words);
};

constexpr Verb kVerbs[] = {
    {"report", ReportCommand},
    {"leaks", LeaksCommand},
    {"frag", FragCommand},
    {"timeline", TimelineCommand},
    {"diff", DiffCommand},
    {"html", HtmlCommand},
    {"export", ExportCommand},
    {"scan", ScanCommand},
    {"check", CheckCommand},
    {"soak", SoakCommand},
    {"record", RecordCommand},
};

}  // namespace

int RunCommandLine(const std::vector<std::string>& words) {
  if (words.empty()) {
    PrintError("no trace given; ollama-leakview PATH..., or --help");
    return kExitUsage;
  }
  for (const Verb& verb : kVerbs) {
    if (words[0] == verb.name) return verb.run({words.begin() + 1, words.end()});
  }
  StandardOutput output;
  if (words[0] == "--help" || words[0] == "-h") {
    output.Write(kHelp);
  } else if (words[0] == "--version") {
    output.Write(absl::StrCat("ollama-leakview ", OLLAMATRACE_VERSION, "\n"));
  } else {
    return ReportCommand(words);
  }
  if (const absl::Status status = output.Finish(); !status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  return kExitFine;
}

}  // namespace ollamatrace
