// From what was replayed to what is reported: groups, ranks, names.
#ifndef OLLAMATRACE_ANALYZER_REPORT_BUILD_REPORT_H_
#define OLLAMATRACE_ANALYZER_REPORT_BUILD_REPORT_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "analyzer/replay/session_history.h"
#include "analyzer/report/report.h"
#include "analyzer/report/symbol_source.h"

namespace ollamatrace {

enum class GroupBy { kStack, kFunction, kModule, kThread };

enum class GroupOrder {
  kLiveBytes,  // every group with live blocks, most bytes first; what doesn't count as memory last
  // Groups that may be leaks: those that grew after the warm-up, by that growth in proportion to
  // the share of their blocks that were never freed; then, of processes that exited by themselves,
  // those that were kept to the end.
  kGrowth,
};

struct ReportQuery {
  GroupBy group_by = GroupBy::kStack;
  GroupOrder order = GroupOrder::kLiveBytes;
  bool merge_processes =
      false;                   // groups of one program are one group, whatever process they are of
  bool include_freed = false;  // also groups all of whose blocks were freed: verdict "freed"
  uint64_t top = 0;            // no more groups than this; 0: all
  // Filters: a group has to pass each; an empty list passes all, else one of its entries has to
  // match.
  std::vector<std::string> processes;  // pid, or name: the last part of the executable's path
  std::vector<std::string> modules;    // part of the last part of the path of a frame's module
  std::vector<std::string> functions;  // part of a frame's function
  std::vector<std::string> domains;    // as DomainName says
  uint64_t min_bytes = 0;
  uint64_t timeline_points = 0;  // of Report::timeline and the groups' curves; 0: none
};

// Called now and then with (stacks done, stacks in all).
using ReportProgress = std::function<void(uint64_t, uint64_t)>;

// Grouping by thread needs a session that was replayed with ReplayOptions::by_thread. The same
// input gives the same report. Frames with the same function, file and line are the same frame:
// stacks that look the same are one group.
Report BuildReport(const SessionHistory& session, const ReportQuery& query, SymbolSource& symbols,
                   const ReportProgress& progress = nullptr);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_BUILD_REPORT_H_
