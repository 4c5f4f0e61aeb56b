// What changed between two reports: of two sessions, of a build and its predecessor, or of two
// moments of one session.
#ifndef OLLAMATRACE_ANALYZER_REPORT_DIFF_REPORTS_H_
#define OLLAMATRACE_ANALYZER_REPORT_DIFF_REPORTS_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/report/report.h"

namespace ollamatrace {

// One side of a group that is in both reports, or in one.
struct DiffSide {
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t allocations = 0;
  std::string verdict;  // of the largest part; empty: there is no such group
  std::optional<double> bytes_per_request;
  std::vector<size_t> groups;  // indices into the report's groups
};

struct DiffEntry {
  enum class Match {
    kNone,      // in one report only: new, or gone
    kStack,     // the same functions in the same modules
    kFunction,  // the same blamed function; the way to it differs, as it does when inlining does
  };
  Match match = Match::kNone;
  std::string program;  // the last part of the executable's path
  std::string domain;
  std::string mapping;
  bool counts_as_memory = true;
  DiffSide before;
  DiffSide after;
  int64_t delta_bytes = 0;
  std::vector<uint32_t>
      frames;  // indices into ReportDiff::frames; those of `after` where it has any
  size_t blamed_frame = 0;

  bool IsNew() const { return before.verdict.empty(); }
  bool IsGone() const { return after.verdict.empty(); }
};

struct DiffSession {
  std::string title;  // as it was asked for
  double duration = 0;
  uint64_t requests = 0;
  uint64_t live_bytes = 0;  // of what counts as memory
};

struct ReportDiff {
  DiffSession before;
  DiffSession after;
  std::vector<DiffEntry> entries;  // the most growth first
  std::vector<ReportFrame> frames;
};

// Both reports with all groups, the processes of a program merged. Stacks are matched by names of
// functions and the last parts of modules' paths, never by address or line.
ReportDiff DiffReports(const Report& before, const Report& after);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_DIFF_REPORTS_H_
