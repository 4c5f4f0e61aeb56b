#include "analyzer/cli/verbs.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/cli/commands.h"

namespace ollamatrace {

const std::vector<Verb>& Verbs() {
  static const auto& verbs = *new std::vector<Verb>{
      {"report", "PATH...", "what is still allocated, by the stack that allocated it",
       ReportCommand, ReportManual},
      {"leaks", "PATH...", "the stacks that look like leaks", LeaksCommand, LeaksManual},
      {"frag", "PATH...", "what the heap keeps unused, and why", FragCommand, FragManual},
      {"timeline", "PATH...", "live bytes over time, phases and load cycles", TimelineCommand,
       TimelineManual},
      {"diff", "A B", "what B keeps more than A, build against build", DiffCommand, DiffManual},
      {"html", "PATH... -o FILE", "one page to look at, offline", HtmlCommand, HtmlManual},
      {"export", "PATH... -o FILE", "the report for pprof, speedscope, SQLite and other tools",
       ExportCommand, ExportManual},
      {"symbolize", "PATH...", "stores names beside traces, to be read on any machine",
       SymbolizeCommand, SymbolizeManual},
      {"scan", "PID", "which blocks of a running process nothing points to", ScanCommand,
       ScanManual},
      {"check", "PATH...", "holds a session against budgets, for CI", CheckCommand, CheckManual},
      {"soak", "-- CMD", "drives a server through its phases, then checks", SoakCommand,
       SoakManual},
      {"watch", "PATH...", "memory of running processes; metrics and alarms", WatchCommand,
       WatchManual},
      {"record", "-- CMD", "runs a command under the library", RecordCommand, RecordManual},
      {"completion", "bash|zsh|fish", "a script with which the shell completes command lines",
       CompletionCommand, CompletionManual},
      {"manual", "[VERB]", "a manual page, for man -l", ManualCommand, ManualManual},
  };
  return verbs;
}

const Verb* FindVerb(absl::string_view name) {
  const std::vector<Verb>& verbs = Verbs();
  const auto found =
      std::find_if(verbs.begin(), verbs.end(), [&](const Verb& verb) { return verb.name == name; });
  return found == verbs.end() ? nullptr : &*found;
}

Manual ProgramManual() {
  std::string text =
      "Usage: ollama-leakview PATH...               the report of traces or session folders\n"
      "       ollama-leakview VERB [OPTION...] ...\n"
      "       ollama-leakview VERB --help | --version\n"
      "\n"
      "Verbs:\n";
  for (const Verb& verb : Verbs()) {
    absl::StrAppendFormat(&text, "  %-26s %s\n", absl::StrCat(verb.name, " ", verb.operands),
                          verb.summary);
  }
  absl::StrAppend(&text,
                  "\n"
                  "Exit code 0: fine; 1: a budget is broken (check, soak, watch); 2: usage; 3: "
                  "input that cannot be read (what\n"
                  "could be read was reported).\n"
                  "\n"
                  "Example: ollama-leakview record -o /tmp/trace -- ollama serve\n"
                  "         ollama-leakview /tmp/trace\n");
  return {text, {}};
}

}  // namespace ollamatrace
