#include "analyzer/cli/commands.h"
#include "analyzer/cli/run_report.h"

namespace ollamatrace {

int LeaksCommand(const std::vector<std::string>& words) {
  return RunReport(
      words,
      "Usage: ollama-leakview leaks [OPTION...] PATH...\n"
      "\n"
      "The stacks that look like leaks, of memory alone (no file mappings, no reservations):\n"
      "first those whose live bytes grew after the warm-up, which is the first quarter of a "
      "process's life (or of the\n"
      "window that --since and --until give). They are ordered by that growth, counted in the "
      "share of the stack's\n"
      "blocks that were never freed: a busy cache that keeps little comes after a slow leak that "
      "keeps everything.\n"
      "Then what processes that ended by themselves never freed. What a killed or running process "
      "merely held, such\n"
      "as a loaded model, is left out unless it grew. Bytes per request need marks (marks.jsonl), "
      "bytes per hour need\n"
      "a process that lived for a minute.\n"
      "\n"
      "Example: ollama-leakview leaks --since=10m --process=ollama ollamatrace/\n",
      GroupOrder::kGrowth, RenderLeaks);
}

}  // namespace ollamatrace
