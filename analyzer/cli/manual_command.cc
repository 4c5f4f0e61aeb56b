#include "absl/strings/str_cat.h"
#include "analyzer/cli/commands.h"
#include "analyzer/cli/manual_page.h"
#include "analyzer/cli/terminal.h"
#include "analyzer/cli/verbs.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview manual [VERB]\n"
    "\n"
    "The manual page of the program or of one of its verbs on standard output, as man(1) formats "
    "it. `cmake --install`\n"
    "puts them all where man looks.\n"
    "\n"
    "Example: ollama-leakview manual check | man -l -\n";

std::vector<Option> Options(bool& help) {
  return {{"-h, --help", "", "this text", [&](absl::string_view) {
             help = true;
             return absl::OkStatus();
           }}};
}

}  // namespace

Manual ManualManual() {
  bool help = false;
  return MakeManual(kHelp, Options(help));
}

int ManualCommand(const std::vector<std::string>& words) {
  bool help = false;
  std::vector<std::string> names;
  absl::Status status = ParseArguments(words, Options(help), /*stop_at_positional=*/false, names);
  const Verb* verb = names.empty() ? nullptr : FindVerb(names.front());
  if (status.ok() && names.size() > 1) {
    status = absl::InvalidArgumentError("manual takes one verb at most");
  } else if (status.ok() && !names.empty() && verb == nullptr) {
    status = absl::InvalidArgumentError(
        absl::StrCat("there is no verb ", names.front(), " (see ollama-leakview --help)"));
  }
  if (!status.ok()) {
    PrintError(status.message());
    return kExitUsage;
  }
  if (help) return PrintHelp(ManualManual());
  return PrintText(ManualPage(verb, verb == nullptr ? ProgramManual() : verb->manual(), Verbs()));
}

}  // namespace ollamatrace
