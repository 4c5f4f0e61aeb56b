#include "analyzer/cli/commands.h"
#include "analyzer/cli/run_report.h"

namespace ollamatrace {
namespace {

constexpr char kHelp[] =
    "Usage: ollama-leakview frag [OPTION...] PATH...\n"
    "\n"
    "Memory that the heap keeps though it is not in use, at the last moment at which the "
    "library "
    "looked at the\n"
    "pages (of a process that runs: now). For each of the allocator's heaps what is held, "
    "live "
    "and "
    "free, and what\n"
    "malloc_trim(0) would return; then the stacks whose survivors keep pages that hold "
    "little "
    "else, by what\n"
    "malloc_trim would return if they were freed. TRIMMABLE and that figure follow glibc's "
    "malloc; of other\n"
    "allocators only the use of their pages is known.\n"
    "\n"
    "Example: ollama-leakview frag --process=llama-server ollamatrace/\n";

}  // namespace

Manual FragManual() { return ManualWithReportOptions(kHelp); }

int FragCommand(const std::vector<std::string>& words) {
  return RunReport(words, {.manual = FragManual,
                           .order = GroupOrder::kLiveBytes,
                           .render = RenderFragmentation,
                           .keep_layout = true});
}

}  // namespace ollamatrace
