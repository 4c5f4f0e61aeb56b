#include "analyzer/cli/commands.h"
#include "analyzer/cli/run_report.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview timeline [OPTION...] PATH...\n"
    "\n"
    "Live bytes over time, of each process by kind of memory and of the first groups of the "
    "report, as a line of\n"
    "64 columns each (--format=json: at 240 moments). With phase marks (marks.jsonl) the "
    "phases stand above, and\n"
    "first comes what each did to the memory: idle slope, load peak, how much an unload "
    "gave "
    "back and how soon,\n"
    "which processes were killed, and which outlived their server. In the default mode "
    "blocks that died young are\n"
    "not in the curves.\n"
    "\n"
    "Example: ollama-leakview timeline --process=llama-server --top=5 ollamatrace/\n";

}  // namespace

Manual TimelineManual() { return ManualWithReportOptions(kHelp); }

int TimelineCommand(const std::vector<std::string>& words) {
  return RunReport(words, {.manual = TimelineManual,
                           .order = GroupOrder::kLiveBytes,
                           .render = RenderTimeline,
                           .timeline_points = 64});
}

}  // namespace ollamatrace
