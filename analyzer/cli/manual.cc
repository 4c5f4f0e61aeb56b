#include "analyzer/cli/manual.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "analyzer/cli/terminal.h"

namespace ollamatrace {

Manual MakeManual(absl::string_view text, std::vector<Option> options) {
  for (Option& option : options) option.set = nullptr;
  return {std::string(text), std::move(options)};
}

std::string ManualAsHelp(const Manual& manual) {
  if (manual.options.empty()) return manual.text;
  return absl::StrCat(manual.text, "\nOptions:\n", DescribeOptions(manual.options));
}

int PrintHelp(const Manual& manual) { return PrintText(ManualAsHelp(manual)); }

int PrintText(absl::string_view text) {
  StandardOutput output;
  output.Write(text);
  if (const absl::Status status = output.Finish(); !status.ok()) {
    PrintError(status.message());
    return kExitUnreadable;
  }
  return kExitFine;
}

}  // namespace ollamatrace
