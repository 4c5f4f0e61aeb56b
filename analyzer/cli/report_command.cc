#include "analyzer/cli/commands.h"
#include "analyzer/cli/run_report.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview [report] [OPTION...] PATH...\n"
    "\n"
    "Ranks what is still allocated by the call stack that allocated it. A PATH is a "
    "trace (.zst), a\n"
    "journal, or a session folder. \">\" marks the frame to look at first: the "
    "innermost one that is\n"
    "not an allocator's or a runtime's own.\n"
    "\n"
    "Example: ollama-leakview report --process=llama-server --since=load "
    "--min-bytes=1M ollamatrace/\n";

}  // namespace

Manual ReportManual() { return ManualWithReportOptions(kHelp); }

int ReportCommand(const std::vector<std::string>& words) {
  return RunReport(words, {.manual = ReportManual,
                           .order = GroupOrder::kLiveBytes,
                           .render = RenderText,
                           .keep_layout = true});
}

}  // namespace ollamatrace
