// Follows all processes of a session, and knows how their memory moves.
#ifndef OLLAMATRACE_ANALYZER_WATCH_SESSION_WATCH_H_
#define OLLAMATRACE_ANALYZER_WATCH_SESSION_WATCH_H_

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/status/status.h"
#include "analyzer/symbolize/symbolizer.h"
#include "analyzer/watch/group_namer.h"
#include "analyzer/watch/level_history.h"
#include "analyzer/watch/trace_follower.h"

namespace ollamatrace {

struct WatchedGroup {
  GroupName name;
  std::string domain;  // as DomainName says
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  int64_t growth_bytes = 0;  // since the watch began, or the process
  std::optional<double> growth_by_hour;
};

struct WatchedProcess {
  uint32_t pid = 0;
  std::string name;
  // False: too many live blocks. Those of heap and GPU are not known then.
  bool followed = true;
  uint64_t heap_bytes = 0;
  uint64_t mapped_bytes = 0;
  uint64_t gpu_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t lost_events = 0;
  // Of the library's last sample; nothing where a figure is not known.
  std::optional<uint64_t> rss_anon, rss_file, swap, retained, open_files, threads;
  std::optional<LevelHistory::Slope> growth_by_hour;  // of heap, mappings and GPU together
  std::vector<WatchedGroup> groups;                   // those that grew most, then the largest
};

struct WatchSnapshot {
  double seconds = 0;                     // since the watch began
  std::vector<WatchedProcess> processes;  // that are alive, by pid
  uint64_t ended_processes = 0;
  uint64_t requests = 0;
  std::string phase;                // the last that was marked
  std::vector<std::string> errors;  // one line each
  // Of all processes.
  uint64_t live_bytes = 0;
  std::optional<uint64_t> rss_bytes;  // RssAnon and swap
  uint64_t first_rss_bytes = 0;       // when it was first known
  std::optional<uint64_t> open_files;
  uint64_t first_open_files = 0;
  std::optional<LevelHistory::Slope> growth_by_hour;
};

// Memory is bounded: by LiveLedger's limits for each living process, of which at most
// kMostProcesses are followed. Not thread-safe.
class SessionWatch {
 public:
  static constexpr size_t kMostProcesses = 64;
  static constexpr size_t kMostGroups = 10;
  static constexpr double kLeastSeconds = 60;  // before a rate by hour is told

  // `paths` as in FindSession: traces, journals, session folders (one level of folders below).
  SessionWatch(std::vector<std::string> paths, SymbolizerOptions symbols);

  // Looks at all of it. NotFound, one line: none of the paths is a folder or a trace. A folder may
  // be empty: the server starts later.
  absl::Status Refresh();
  const WatchSnapshot& snapshot() const { return snapshot_; }

 private:
  struct Process {
    std::unique_ptr<TraceFollower> follower;
    LevelHistory levels;
    bool looked_at = false;
    absl::flat_hash_map<uint32_t, LevelHistory> row_levels;  // of the rows that grew most
    absl::flat_hash_map<StackId, GroupName> names;           // a bounded number
  };

  void FindTraces();
  void FollowMarks();
  void Look(Process& process, double now);
  std::vector<WatchedGroup> Groups(Process& process, double now);
  double Now() const;

  const std::vector<std::string> paths_;
  const SymbolizerOptions symbols_;
  const uint64_t begin_ns_;
  std::map<std::string, Process> processes_;  // by TraceFileName::base
  // Hashes of the bases of processes that have ended: a server that starts probes has many.
  absl::flat_hash_set<size_t> finished_;
  std::map<std::string, uint64_t> marks_done_;  // bytes of marks.jsonl, by path
  bool found_any_ = false;
  LevelHistory levels_;
  WatchSnapshot snapshot_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_SESSION_WATCH_H_
