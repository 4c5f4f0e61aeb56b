#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/completion.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/cli/verbs.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview completion bash|zsh|fish\n"
    "\n"
    "A script on standard output with which the shell completes verbs, options and their values. "
    "`cmake --install` puts\n"
    "it where the shells look.\n"
    "\n"
    "Example: source <(ollama-leakview completion bash)\n"
    "         ollama-leakview completion fish | source\n";

std::vector<Option> Options(bool& help) {
  return {{"-h, --help", "", "this text", [&](absl::string_view) {
             help = true;
             return absl::OkStatus();
           }}};
}

}  // namespace

Manual CompletionManual() {
  bool help = false;
  return MakeManual(kHelp, Options(help));
}

int CompletionCommand(const std::vector<std::string>& words) {
  bool help = false;
  std::vector<std::string> shells;
  const absl::Status status =
      ParseArguments(words, Options(help), /*stop_at_positional=*/false, shells);
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (help) return PrintHelp(CompletionManual());
  if (shells == std::vector<std::string>{"bash"}) return PrintText(BashCompletion(Verbs()));
  if (shells == std::vector<std::string>{"zsh"}) return PrintText(ZshCompletion(Verbs()));
  if (shells == std::vector<std::string>{"fish"}) return PrintText(FishCompletion(Verbs()));
  PrintError("completion takes the name of a shell: bash, zsh or fish");
  return kExitUsage;
}

}  // namespace ollamatrace
