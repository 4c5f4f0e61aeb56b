#include "analyzer/watch/session_watch.h"

#include <malloc.h>
#include <time.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>
#include <system_error>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "analyzer/load/marks.h"
#include "formats/segment_files.h"

namespace ollamatrace {
namespace {

namespace fs = std::filesystem;

constexpr size_t kMostNames = 1000;
constexpr size_t kMostErrors = 8;
constexpr size_t kMarksAtOnce = 4 << 20;

uint64_t MonotonicNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::optional<uint64_t> Known(uint64_t gauge) {
  return gauge == kUnknownGauge ? std::nullopt : std::optional<uint64_t>(gauge);
}

bool Counts(const StackKey& key) {
  if (IsGpu(key.domain)) return IsOwnMemory(key.domain);
  return key.domain == Domain::kHeap ||
         (key.domain == Domain::kMapping && key.mapping == MappingClass::kAnonymous);
}

std::string BaseName(const std::string& path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

SessionWatch::SessionWatch(std::vector<std::string> paths, SymbolizerOptions symbols)
    : paths_(std::move(paths)), symbols_(std::move(symbols)), begin_ns_(MonotonicNs()) {}

double SessionWatch::Now() const { return static_cast<double>(MonotonicNs() - begin_ns_) / 1e9; }

void SessionWatch::FindTraces() {
  std::set<std::string> folders;
  const auto add_file = [&](const fs::path& path) {
    const TraceFileName name = ParseTraceFileName(path.string());
    if (name.kind == TraceFileKind::kOther) return false;
    const std::string& base = name.base;
    found_any_ = true;
    folders.insert(path.has_parent_path() ? path.parent_path().string() : ".");
    if (finished_.contains(std::hash<std::string>()(base)) || processes_.count(base) > 0)
      return true;
    if (processes_.size() >= kMostProcesses) {
      snapshot_.errors.push_back(absl::StrCat("more than ", kMostProcesses,
                                              " processes: ", BaseName(base), " is not followed"));
      return true;
    }
    processes_[base].follower = std::make_unique<TraceFollower>(base);
    return true;
  };
  std::error_code error;
  for (const std::string& one : paths_) {
    if (!fs::is_directory(one, error)) {
      if (fs::is_regular_file(one, error)) add_file(one);
      continue;
    }
    found_any_ = true;  // what is not in it yet may come
    bool any = false;
    std::vector<fs::path> below;
    for (fs::directory_iterator it(one, error), end; !error && it != end; it.increment(error)) {
      std::error_code ignored;
      if (it->is_regular_file(ignored)) any = add_file(it->path()) || any;
      if (it->is_directory(ignored)) below.push_back(it->path());
    }
    if (any) continue;
    for (const fs::path& folder : below) {
      std::error_code ignored;
      for (fs::directory_iterator it(folder, ignored), end; !ignored && it != end;
           it.increment(ignored)) {
        std::error_code unreadable;
        if (it->is_regular_file(unreadable)) add_file(it->path());
      }
    }
  }
  for (const std::string& folder : folders) marks_done_.try_emplace(folder + "/marks.jsonl", 0);
}

void SessionWatch::FollowMarks() {
  for (auto& [path, done] : marks_done_) {
    std::ifstream file(path, std::ios::binary);
    if (!file) continue;
    for (;;) {
      file.clear();
      file.seekg(static_cast<std::streamoff>(done));
      std::string text(kMarksAtOnce, '\0');
      file.read(text.data(), static_cast<std::streamsize>(text.size()));
      text.resize(static_cast<size_t>(file.gcount()));
      // What is not a whole line yet comes the next time.
      const size_t whole = text.rfind('\n');
      if (whole == std::string::npos) break;
      text.resize(whole + 1);
      done += text.size();
      for (const Mark& mark : ParseMarks(text).marks) {
        if (mark.name == kRequestMark) ++snapshot_.requests;
        if (mark.name == kPhaseMark) snapshot_.phase = mark.label;
      }
    }
  }
}

absl::Status SessionWatch::Refresh() {
  snapshot_.errors.clear();
  FindTraces();
  if (!found_any_) {
    return absl::NotFoundError(
        absl::StrCat(absl::StrJoin(paths_, ", "), ": neither a session folder nor a trace"));
  }
  FollowMarks();
  const double now = Now();
  snapshot_.seconds = now;
  for (auto& [base, process] : processes_) {
    const absl::Status status = process.follower->Refresh();
    if (!status.ok() && snapshot_.errors.size() < kMostErrors) {
      snapshot_.errors.push_back(absl::StrCat(BaseName(base), ": ", status.message()));
    }
  }
  snapshot_.processes.clear();
  snapshot_.live_bytes = 0;
  snapshot_.rss_bytes.reset();
  snapshot_.open_files.reset();
  for (auto it = processes_.begin(); it != processes_.end();) {
    if (it->second.follower->finished()) {
      ++snapshot_.ended_processes;
      finished_.insert(std::hash<std::string>()(it->first));
      it = processes_.erase(it);
      continue;
    }
    if (it->second.follower->ledger().has_header()) Look(it->second, now);
    ++it;
  }
  std::sort(snapshot_.processes.begin(), snapshot_.processes.end(),
            [](const WatchedProcess& a, const WatchedProcess& b) { return a.pid < b.pid; });
  if (snapshot_.first_rss_bytes == 0) snapshot_.first_rss_bytes = snapshot_.rss_bytes.value_or(0);
  if (snapshot_.first_open_files == 0) {
    snapshot_.first_open_files = snapshot_.open_files.value_or(0);
  }
  if (!snapshot_.processes.empty()) levels_.Add(now, static_cast<double>(snapshot_.live_bytes));
  snapshot_.growth_by_hour = levels_.GrowthByHour(kLeastSeconds);
  malloc_trim(0);  // a journal's copy is large, and gone until the next time
  return absl::OkStatus();
}

void SessionWatch::Look(Process& process, double now) {
  LiveLedger& ledger = process.follower->ledger();
  if (!process.looked_at) {
    // What was there when the watch began is no growth.
    process.looked_at = true;
    ledger.SetFirst();
  }
  WatchedProcess watched;
  watched.pid = ledger.pid();
  watched.name = ledger.exe().empty() ? "?" : BaseName(ledger.exe());
  watched.followed = ledger.followed();
  watched.heap_bytes = ledger.heap_bytes();
  watched.mapped_bytes = ledger.mapped_bytes();
  watched.gpu_bytes = ledger.gpu_bytes();
  watched.live_blocks = ledger.live_blocks();
  watched.lost_events = ledger.lost_events();
  if (const auto& sample = ledger.sample()) {
    watched.rss_anon = Known(sample->rss_anon);
    watched.rss_file = Known(sample->rss_file);
    watched.swap = Known(sample->swap);
    watched.retained = Known(sample->retained);
    watched.open_files = Known(sample->open_files);
    watched.threads = Known(sample->threads);
  }
  const uint64_t live = watched.heap_bytes + watched.mapped_bytes + watched.gpu_bytes;
  if (watched.followed) process.levels.Add(now, static_cast<double>(live));
  watched.growth_by_hour = process.levels.GrowthByHour(kLeastSeconds);
  watched.groups = Groups(process, now);
  snapshot_.live_bytes += live;
  if (watched.rss_anon) {
    snapshot_.rss_bytes =
        snapshot_.rss_bytes.value_or(0) + *watched.rss_anon + watched.swap.value_or(0);
  }
  if (watched.open_files) {
    snapshot_.open_files = snapshot_.open_files.value_or(0) + *watched.open_files;
  }
  snapshot_.processes.push_back(std::move(watched));
}

std::vector<WatchedGroup> SessionWatch::Groups(Process& process, double now) {
  const std::vector<LiveLedger::Row>& rows = process.follower->ledger().rows();
  const auto growth = [&](uint32_t row) {
    return static_cast<int64_t>(rows[row].live_bytes - rows[row].first_bytes);
  };
  std::vector<uint32_t> order;
  for (uint32_t row = 0; row < rows.size(); ++row) {
    if (rows[row].live_bytes > 0 && Counts(rows[row].key)) order.push_back(row);
  }
  // Growth first; where nothing grew, size.
  const auto before = [&](uint32_t a, uint32_t b) {
    const int64_t x = std::max<int64_t>(0, growth(a)), y = std::max<int64_t>(0, growth(b));
    if (x != y) return x > y;
    if (rows[a].live_bytes != rows[b].live_bytes) return rows[a].live_bytes > rows[b].live_bytes;
    return a < b;
  };
  const size_t kept = std::min(order.size(), kMostGroups);
  std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(kept), order.end(),
                    before);
  order.resize(kept);

  // Only of those that are shown is there a history.
  absl::flat_hash_map<uint32_t, LevelHistory> levels;
  std::vector<StackId> unnamed;
  for (const uint32_t row : order) {
    const auto known = process.row_levels.find(row);
    if (known != process.row_levels.end()) levels[row] = std::move(known->second);
    levels[row].Add(now, static_cast<double>(rows[row].live_bytes));
    if (process.names.count(rows[row].key.stack) == 0) unnamed.push_back(rows[row].key.stack);
  }
  process.row_levels = std::move(levels);
  if (!unnamed.empty()) {
    if (process.names.size() > kMostNames) process.names.clear();
    auto named = NameGroups(process.follower->ledger(), unnamed, symbols_);
    // What has no name is not asked about again.
    for (const StackId stack : unnamed) process.names[stack] = std::move(named[stack]);
  }

  std::vector<WatchedGroup> groups;
  for (const uint32_t row : order) {
    WatchedGroup group;
    group.name = process.names[rows[row].key.stack];
    if (group.name.function.empty()) group.name.function = "unknown stack";
    group.domain = DomainName(rows[row].key.domain);
    group.live_bytes = rows[row].live_bytes;
    group.live_blocks = rows[row].live_blocks;
    group.growth_bytes = growth(row);
    const auto slope = process.row_levels[row].GrowthByHour(kLeastSeconds);
    if (slope) group.growth_by_hour = slope->by_hour;
    groups.push_back(std::move(group));
  }
  return groups;
}

}  // namespace ollamatrace
