#include "analyzer/cli/commands.h"
#include "analyzer/cli/run_report.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview leaks [OPTION...] PATH...\n"
    "\n"
    "The stacks that look like leaks, of memory alone (no file mappings, no reservations):\n"
    "first those with a verdict of growth without bound, or of what was left after an "
    "unload; then what grew "
    "after the\n"
    "warm-up for another reason or for too short a time; then what processes that ended by "
    "themselves "
    "never freed.\n"
    "What a killed or running process merely held, such as a loaded model, is left out "
    "unless it "
    "grew. Bytes\n"
    "per request need marks (marks.jsonl), bytes per hour a process that lived for a "
    "minute.\n"
    "\n"
    "Example: ollama-leakview leaks --since=10m --process=ollama ollamatrace/\n";

}  // namespace

Manual LeaksManual() { return ManualWithReportOptions(kHelp); }

int LeaksCommand(const std::vector<std::string>& words) {
  return RunReport(words,
                   {.manual = LeaksManual, .order = GroupOrder::kGrowth, .render = RenderLeaks});
}

}  // namespace ollamatrace
