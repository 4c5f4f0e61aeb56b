#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/cli/verbs.h"

namespace ollamatrace {

int RunCommandLine(const std::vector<std::string>& words) {
  if (words.empty()) {
    PrintError("no trace given; ollama-leakview PATH..., or --help");
    return kExitUsage;
  }
  if (const Verb* verb = FindVerb(words[0])) return verb->run({words.begin() + 1, words.end()});
  if (words[0] == "--help" || words[0] == "-h") return PrintHelp(ProgramManual());
  if (words[0] == "--version") {
    return PrintText(absl::StrCat("ollama-leakview ", OLLAMATRACE_VERSION, "\n"));
  }
  return Verbs().front().run(words);
}

}  // namespace ollamatrace
