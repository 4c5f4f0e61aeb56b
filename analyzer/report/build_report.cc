#include "analyzer/report/build_report.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <tuple>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/string_view.h"
#include "analyzer/diagnose/group_history.h"
#include "analyzer/diagnose/phases.h"
#include "analyzer/diagnose/reachability_verdict.h"
#include "analyzer/diagnose/verdict.h"
#include "analyzer/report/build_gpu.h"
#include "analyzer/report/build_memory.h"
#include "analyzer/report/build_timeline.h"
#include "analyzer/report/estimate_text.h"
#include "analyzer/report/frame_table.h"
#include "analyzer/report/mapping_name.h"
#include "analyzer/text/function_name.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

const char* EndName(ProcessEnd end) {
  switch (end) {
    case ProcessEnd::kRunning:
      return "running";
    case ProcessEnd::kExited:
      return "exited";
    case ProcessEnd::kKilled:
      return "killed";
    case ProcessEnd::kExec:
      return "exec";
    case ProcessEnd::kStopped:
      return "stopped";
  }
  return "killed";
}

const char* LossName(LossKind kind) {
  switch (kind) {
    case LossKind::kSignalInHook:
      return "signal-in-hook";
    case LossKind::kNoThreadState:
      return "no-thread-state";
    case LossKind::kUnfinished:
      return "unfinished";
    case LossKind::kStackTableFull:
      return "stack-table-full";
    case LossKind::kDiskFull:
      return "disk-full";
    case LossKind::kOther:
      break;
  }
  return "other";
}

const char* ModeName(Mode mode) {
  switch (mode) {
    case Mode::kSurvivors:
      return "survivors";
    case Mode::kFull:
      return "full";
    case Mode::kSample:
      return "sample";
  }
  return "unknown";
}

template <typename Matches>
bool Passes(const std::vector<std::string>& filter, const Matches& matches) {
  return filter.empty() || std::any_of(filter.begin(), filter.end(), matches);
}

using StackEntry = StackTable::Entry;

// What the stacks of one group have in common.
struct GroupKey {
  uint32_t owner = 0;   // index of the process or, where these are merged, of its program's first
  uint32_t thread = 0;  // index of the name, when threads are told apart
  FramePaths::Path path = FramePaths::kEmpty;
  Domain domain = Domain::kHeap;
  MappingClass mapping = MappingClass::kAnonymous;

  friend bool operator==(const GroupKey&, const GroupKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const GroupKey& key) {
    return H::combine(std::move(h), key.owner, key.thread, key.path,
                      static_cast<uint8_t>(key.domain), static_cast<uint8_t>(key.mapping));
  }
};

// A stack of a process, and the group to which it belongs.
struct Member {
  uint32_t group = 0;
  uint32_t process = 0;
  const StackEntry* stack = nullptr;
};

// What ranks a group.
struct Candidate {
  uint32_t group = 0;
  bool counts_as_memory = true;
  double leaked = 0;
  double score = 0;
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
};

// The verdict on a group: that of the one of its processes that leaks or, where none does or
// several do, that holds the most.
struct Judgement {
  Diagnosis diagnosis;
  size_t of = 0;             // index of that process
  size_t parts = 0;          // so many processes
  int64_t growth_bytes = 0;  // in all
  bool growing = false;
  bool leaks = false;
  std::optional<LostBlocks> lost;
  ReportCurve curve;
};

ReportLost LostOf(const LostBlocks& lost) {
  return {lost.definitely.bytes,  lost.definitely.blocks, lost.indirectly.bytes,
          lost.indirectly.blocks, lost.possibly.bytes,    lost.possibly.blocks};
}

class Builder {
 public:
  Builder(const SessionHistory& session, const ReportQuery& query, SymbolSource& symbols,
          const ReportProgress& progress)
      : session_(session), query_(query), progress_(progress), frames_(symbols) {}

  Report Build() {
    report_.title = query_.order == GroupOrder::kGrowth ? "leaks" : "report";
    report_.start_wall_ns = session_.wall_ns;
    report_.requests = session_.requests;
    if (session_.since_ns != 0) report_.since = Seconds(session_.since_ns);
    if (session_.until_ns != kNever) report_.until = Seconds(session_.until_ns);
    static constexpr const char* kGroupBy[] = {"stack", "function", "module", "thread"};
    report_.group_by = kGroupBy[static_cast<int>(query_.group_by)];
    report_.filtered = !query_.processes.empty() || !query_.modules.empty() ||
                       !query_.functions.empty() || !query_.domains.empty() ||
                       query_.min_bytes > 0 || report_.since || report_.until;
    unloads_ = UnloadsOf(PhasesOf(session_));
    AddProcesses();
    AddTime();
    AddGroups();
    for (size_t i = 0; i < order_.size(); ++i) {
      AddMemory(i);
      report_.processes[i].gpu = MakeGpu(
          History(i), [&](uint64_t time_ns) { return Seconds(time_ns); },
          [&](StackId stack) { return frames_.Expand(i, History(i), stack); });
    }
    AddCoverage();
    report_.frames = frames_.Take();
    return std::move(report_);
  }

 private:
  double Seconds(uint64_t time_ns) const {
    return time_ns >= session_.start_ns ? static_cast<double>(time_ns - session_.start_ns) / 1e9
                                        : -static_cast<double>(session_.start_ns - time_ns) / 1e9;
  }

  const ProcessHistory& History(size_t process) const { return *order_[process]; }

  void AddProcesses() {
    for (const ProcessHistory& history : session_.processes) {
      // What began after the window is no part of it.
      if (history.start_ns > session_.until_ns) continue;
      const std::string pid = absl::StrCat(history.pid);
      const absl::string_view name = BaseName(history.exe);
      if (!Passes(query_.processes,
                  [&](const std::string& wanted) { return wanted == pid || wanted == name; })) {
        continue;
      }
      order_.push_back(&history);
    }
    std::stable_sort(
        order_.begin(), order_.end(), [](const ProcessHistory* a, const ProcessHistory* b) {
          return std::tie(a->start_ns, a->pid, a->path) < std::tie(b->start_ns, b->pid, b->path);
        });
    for (size_t i = 0; i < order_.size(); ++i) {
      report_.processes.push_back(MakeProcess(i));
      report_.duration = std::max(report_.duration, report_.processes.back().last);
    }
  }

  // Of a process's figures, or a group's: nothing where they are no estimates.
  template <typename Figures>
  std::optional<ReportErrors> Errors(size_t process, Domain domain, const Figures& figures) const {
    if (History(process).sample_bytes == 0 || domain != Domain::kHeap) return std::nullopt;
    const Variances& variances = figures.variances;
    return ReportErrors{std::sqrt(variances.live_bytes), std::sqrt(variances.live_blocks),
                        std::sqrt(variances.allocations), std::sqrt(variances.frees),
                        figures.live_drawn};
  }

  ReportProcess MakeProcess(size_t index) const {
    const ProcessHistory& history = History(index);
    ReportProcess process;
    process.trace = history.path;
    process.pid = history.pid;
    process.ppid = history.ppid;
    process.parent = ParentOf(index);
    process.exe = history.exe;
    process.name = history.exe.empty() ? "?" : std::string(BaseName(history.exe));
    process.argv = history.argv;
    process.mode = ModeName(history.mode);
    if (history.sample_bytes != 0) process.sample_bytes = history.sample_bytes;
    process.start = Seconds(history.start_ns);
    process.complete_from = Seconds(history.complete_from_ns());
    process.last = Seconds(std::max(history.start_ns, history.end_ns));
    process.end = EndName(history.end);
    process.requests = history.requests;
    for (const auto& [kind, events] : history.losses) {
      if (kind != LossKind::kStackTableFull) process.lost_events += events;
    }
    process.host.domain = DomainName(Domain::kHeap);
    for (const auto& [key, total] : history.totals) {
      const ReportDomain domain = {DomainName(key.first), MappingName(key.first, key.second),
                                   total.live_bytes,      total.live_blocks,
                                   total.peak_bytes,      total.allocations,
                                   total.frees,           Errors(index, key.first, total)};
      if (key.first == Domain::kHeap) process.host = domain;
      process.domains.push_back(domain);
    }
    if (history.scan) {
      const ScanResult& scan = *history.scan;
      process.scan = ReportScan{Seconds(scan.time_ns), static_cast<double>(scan.pause_ns) / 1e9,
                                static_cast<double>(scan.duration_ns) / 1e9, scan.blocks_unknown,
                                LostOf(scan.lost)};
    }
    process.memory.mapped =
        history.Total(Domain::kMapping).live_bytes + history.Total(Domain::kBreak).live_bytes;
    if (!history.timeline.empty()) {
      const SampleRecord& sample = history.timeline.back().sample;
      const auto known = [](uint64_t gauge) {
        return gauge == kUnknownGauge ? std::nullopt : std::optional<uint64_t>(gauge);
      };
      process.memory.rss_anon = known(sample.rss_anon);
      process.memory.rss_file = known(sample.rss_file);
      process.memory.rss_shmem = known(sample.rss_shmem);
      process.memory.swap = known(sample.swap);
      process.memory.retained = known(sample.retained);
      process.memory.open_files = known(sample.open_files);
      process.memory.sockets = known(sample.sockets);
      process.memory.threads = known(sample.threads);
    }
    return process;
  }

  void AddTime() {
    const SessionCycles cycles = FindCycles(session_, order_);
    report_.phases = MakePhases(cycles);
    report_.cycles = MakeCycles(cycles);
    report_.orphans = MakeOrphans(cycles);
    if (query_.timeline_points == 0) return;
    const double begin = report_.since.value_or(0);
    report_.timeline = BuildTimeline(session_, order_, begin,
                                     std::max(begin, report_.until.value_or(report_.duration)),
                                     query_.timeline_points);
  }

  // The trace of the parent that was alive when this process began; for a process that went on in
  // another program, the program before.
  std::optional<size_t> ParentOf(size_t index) const {
    const ProcessHistory& child = History(index);
    std::optional<size_t> parent;
    for (size_t i = 0; i < index; ++i) {
      const ProcessHistory& candidate = History(i);
      if (candidate.pid == child.ppid && candidate.pid != child.pid) parent = i;
    }
    return parent;
  }

  // The frames by which a stack is grouped.
  FramePaths::Path GroupPath(FramePaths::Path stack) {
    if (query_.group_by == GroupBy::kStack || stack == FramePaths::kEmpty) return stack;
    if (query_.group_by == GroupBy::kThread) return FramePaths::kEmpty;
    ReportFrame frame = frames_.At(BlamedFrame(stack));
    if (query_.group_by == GroupBy::kModule) {
      frame = ReportFrame{.module = frame.module, .build_id = frame.build_id};
    } else if (!frame.function.empty()) {
      frame.line = 0;
      frame.offset = 0;
      frame.inlined = false;
    }
    return frames_.PathOf(frames_.Intern(std::move(frame)));
  }

  // The innermost frame that is no plumbing; the innermost of all where there is none.
  uint32_t BlamedFrame(FramePaths::Path stack) const {
    const FramePaths& paths = frames_.paths();
    for (FramePaths::Path path = stack; path != FramePaths::kEmpty; path = paths.Outer(path)) {
      if (!frames_.At(paths.Frame(path)).plumbing) return paths.Frame(path);
    }
    return paths.Frame(stack);
  }

  size_t BlamedFrame(const std::vector<uint32_t>& stack) const {
    for (size_t i = 0; i < stack.size(); ++i) {
      if (!frames_.At(stack[i]).plumbing) return i;
    }
    return 0;
  }

  bool StackPasses(FramePaths::Path stack) const {
    const auto any_frame = [&](const auto& matches) {
      const FramePaths& paths = frames_.paths();
      for (FramePaths::Path path = stack; path != FramePaths::kEmpty; path = paths.Outer(path)) {
        if (matches(frames_.At(paths.Frame(path)))) return true;
      }
      return false;
    };
    return Passes(query_.modules,
                  [&](const std::string& wanted) {
                    return any_frame([&](const ReportFrame& frame) {
                      return absl::StrContains(BaseName(frame.module), wanted);
                    });
                  }) &&
           Passes(query_.functions, [&](const std::string& wanted) {
             return any_frame([&](const ReportFrame& frame) {
               return absl::StrContains(frame.function, wanted);
             });
           });
  }

  std::string ThreadName(const ProcessHistory& history, ThreadId thread) const {
    if (query_.group_by != GroupBy::kThread) return "";
    const auto it = history.thread_names.find(static_cast<uint32_t>(thread));
    if (it != history.thread_names.end() && !it->second.empty()) return it->second;
    return thread == ThreadId{} ? "unknown thread"
                                : absl::StrCat("thread ", static_cast<uint32_t>(thread));
  }

  static uint32_t DeviceOf(const ProcessHistory& history, const StackKey& key) {
    const GpuPlace* const place = IsGpu(key.domain) ? history.PlaceOf(key.stack) : nullptr;
    return place == nullptr ? kNoDevice : place->device;
  }

  void AddGroups() {
    FindGroups();
    std::vector<Candidate> candidates;
    uint64_t live_bytes = 0;
    bool estimated = false;
    for (uint32_t group = 0; group < groups_.size(); ++group) {
      const StackStats stats = StatsOf(group);
      if (stats.live_bytes < query_.min_bytes) continue;
      const Judgement judgement = Judge(group, stats, Detail::kFigures);
      if (query_.order == GroupOrder::kGrowth && !MayBeLeak(group, judgement)) continue;
      candidates.push_back({group, CountsAsMemory(group), Leaked(judgement),
                            Score(judgement, stats), stats.live_bytes, stats.live_blocks});
      if (CountsAsMemory(group)) live_bytes += stats.live_bytes;
      estimated = estimated || ErrorsOf(group, stats);
    }
    // Sums of fractions are made in the order of all ranks, so that they don't depend on `top`.
    const size_t shown =
        query_.top == 0 ? candidates.size() : std::min<size_t>(query_.top, candidates.size());
    const size_t sorted = estimated ? candidates.size() : shown;
    std::partial_sort(candidates.begin(), candidates.begin() + static_cast<std::ptrdiff_t>(sorted),
                      candidates.end(),
                      [&](const Candidate& a, const Candidate& b) { return Before(a, b); });
    report_.groups_in_all = candidates.size();
    report_.live_bytes_in_all = live_bytes;
    if (estimated) {
      double variance = 0;
      for (const Candidate& candidate : candidates) {
        const auto errors = ErrorsOf(candidate.group, StatsOf(candidate.group));
        if (errors) variance += errors->live_bytes * errors->live_bytes;
      }
      report_.live_bytes_error = std::sqrt(variance);
    }
    report_.groups.reserve(shown);
    for (size_t i = 0; i < shown; ++i) {
      report_.groups.push_back(MakeGroup(candidates[i].group));
      ReportGroup& group = report_.groups.back();
      group.rank = i + 1;
      if (group.counts_as_memory && live_bytes > 0) {
        group.share = static_cast<double>(group.live_bytes) / static_cast<double>(live_bytes);
      }
    }
    const size_t leaks = static_cast<size_t>(
        std::count_if(candidates.begin(), candidates.end(),
                      [](const Candidate& candidate) { return candidate.leaked > 0; }));
    report_.headline = Headline(live_bytes, leaks);
  }

  // Sorts the stacks that pass the filters into groups.
  void FindGroups() {
    absl::flat_hash_map<GroupKey, uint32_t> numbers;
    absl::flat_hash_map<std::string, uint32_t> threads, programs;
    uint64_t in_all = 0, done = 0;
    for (const ProcessHistory* history : order_) in_all += history->stacks.size();
    for (size_t i = 0; i < order_.size(); ++i) {
      const ProcessHistory& history = History(i);
      // In a fixed order: names are given to the first of what looks the same.
      std::vector<const StackEntry*> stacks;
      for (const StackEntry& stack : history.stacks) {
        if (stack.second.live_blocks > 0 || query_.include_freed) stacks.push_back(&stack);
      }
      std::sort(stacks.begin(), stacks.end(), [](const StackEntry* a, const StackEntry* b) {
        const StackKey &x = a->first, &y = b->first;
        return std::tie(x.stack, x.thread, x.domain, x.mapping) <
               std::tie(y.stack, y.thread, y.domain, y.mapping);
      });
      done += history.stacks.size() - stacks.size();
      const uint32_t owner =
          query_.merge_processes
              ? programs.try_emplace(history.exe, static_cast<uint32_t>(i)).first->second
              : static_cast<uint32_t>(i);
      for (const StackEntry* const stack : stacks) {
        if (progress_ && ++done % 256 == 0) progress_(done, in_all);
        const StackKey& key = stack->first;
        if (!Passes(query_.domains,
                    [&](const std::string& wanted) { return wanted == DomainName(key.domain); })) {
          continue;
        }
        const FramePaths::Path path = frames_.PathOf(i, history, key.stack);
        if (!StackPasses(path)) continue;
        const auto [thread, new_thread] = threads.try_emplace(
            ThreadName(history, key.thread), static_cast<uint32_t>(thread_names_.size()));
        if (new_thread) thread_names_.push_back(thread->first);
        const GroupKey group = {owner, thread->second, GroupPath(path), key.domain, key.mapping};
        const auto [number, added] =
            numbers.try_emplace(group, static_cast<uint32_t>(groups_.size()));
        if (added) groups_.push_back(group);
        members_.push_back({number->second, static_cast<uint32_t>(i), stack});
      }
    }
    // Each group's together, in the order of processes and stacks.
    std::stable_sort(members_.begin(), members_.end(),
                     [](const Member& a, const Member& b) { return a.group < b.group; });
    first_member_.assign(groups_.size() + 1, members_.size());
    for (size_t i = members_.size(); i-- > 0;) first_member_[members_[i].group] = i;
  }

  absl::Span<const Member> MembersOf(uint32_t group) const {
    return absl::MakeConstSpan(members_).subspan(first_member_[group],
                                                 first_member_[group + 1] - first_member_[group]);
  }

  StackStats StatsOf(uint32_t group) const {
    StackStats sum;
    for (const Member& member : MembersOf(group)) AddStats(member.stack->second, sum);
    return sum;
  }

  std::vector<size_t> ProcessesOf(uint32_t group) const {
    std::vector<size_t> processes;
    for (const Member& member : MembersOf(group)) {
      if (processes.empty() || processes.back() != member.process) {
        processes.push_back(member.process);
      }
    }
    return processes;
  }

  bool CountsAsMemory(uint32_t group) const {
    const GroupKey& key = groups_[group];
    return IsOwnMemory(key.domain) &&
           (key.domain != Domain::kMapping || key.mapping == MappingClass::kAnonymous);
  }

  std::optional<ReportErrors> ErrorsOf(uint32_t group, const StackStats& stats) const {
    std::optional<ReportErrors> errors;
    for (const Member& member : MembersOf(group)) {
      if (!errors) errors = Errors(member.process, groups_[group].domain, stats);
    }
    return errors;
  }

  // "server [100]: app::Copy (leak.cc:7)".
  std::string WhoHolds(const ReportGroup& group) const {
    const ReportProcess& process = report_.processes[group.processes.front()];
    std::string who =
        group.processes.size() == 1
            ? absl::StrCat(process.name, " [", process.pid, "]")
            : absl::StrCat(process.name, " in ", group.processes.size(), " processes");
    if (!group.frames.empty()) {
      const ReportFrame& frame = frames_.At(group.frames[group.blamed_frame]);
      absl::StrAppend(&who, ": ",
                      query_.group_by == GroupBy::kModule ? std::string(BaseName(frame.module))
                                                          : FrameText(frame));
    }
    return who;
  }

  static std::string RateText(const ReportGroup& group) {
    std::vector<std::string> rates;
    if (group.bytes_per_request) {
      rates.push_back(FormatBytes(group.bytes_per_request->value) + " per request");
    }
    if (group.bytes_per_hour) {
      rates.push_back(FormatBytes(group.bytes_per_hour->value) + " per hour");
    }
    return absl::StrJoin(rates, ", ");
  }

  // `leaks`: so many groups leak, shown or not.
  std::string Headline(uint64_t live_bytes, size_t leaks) const {
    const auto bytes = [](uint64_t count) { return FormatBytes(static_cast<double>(count)); };
    const auto first =
        std::find_if(report_.groups.begin(), report_.groups.end(),
                     [](const ReportGroup& group) { return group.counts_as_memory; });
    if (first == report_.groups.end()) return "";
    if (leaks > 0) {
      const std::string rate = RateText(*first);
      return absl::StrCat(first->verdict, ": ", WhoHolds(*first), " keeps ",
                          bytes(first->live_bytes), " of ", bytes(live_bytes),
                          rate.empty() ? "" : absl::StrCat(" and grows by ", rate),
                          leaks == 1 ? "" : absl::StrCat("; ", leaks - 1, " more like it"));
    }
    return absl::StrCat("no leak found; the most, ", bytes(first->live_bytes), " of ",
                        bytes(live_bytes), ", is kept by ", WhoHolds(*first), " (", first->verdict,
                        first->site.empty() ? "" : ": " + first->site, ")");
  }

  // "function (file:line)", as short as can be.
  std::string FrameText(const ReportFrame& frame) const {
    const std::string name = frame.function.empty() ? absl::StrCat("0x", absl::Hex(frame.offset))
                                                    : ShortFunction(frame.function, 60);
    const std::string place = frame.file.empty()
                                  ? std::string(BaseName(frame.module))
                                  : absl::StrCat(BaseName(frame.file), ":", frame.line);
    return place.empty() ? name : absl::StrCat(name, " (", place, ")");
  }

  // The stack of one of the process's layout_keys.
  NamedStack NameStack(size_t index, uint32_t key) {
    const ProcessHistory& history = History(index);
    NamedStack stack;
    stack.name = key == kNoKey ? "mapped before the window" : "unknown stack";
    if (key >= history.layout_keys.size()) return stack;
    stack.frames = frames_.Expand(index, history, history.layout_keys[key].stack);
    stack.blamed_frame = BlamedFrame(stack.frames);
    if (stack.frames.empty()) return stack;
    // In a line of its own, a name further out says more than an address.
    size_t told = stack.blamed_frame;
    for (size_t i = told; i < stack.frames.size(); ++i) {
      const ReportFrame& frame = frames_.At(stack.frames[i]);
      if (frame.function.empty() || IsGoSystemLayer(frame.function)) continue;
      told = i;
      break;
    }
    stack.name = FrameText(frames_.At(stack.frames[told]));
    return stack;
  }

  // What stands between Go's runtime and mmap (runtime/mem_linux.go, cgo_mmap.go).
  static bool IsGoSystemLayer(absl::string_view function) {
    for (const absl::string_view one : {"runtime.callCgoMmap", "runtime.mmap", "runtime.sys",
                                        "runtime.asmcgocall", "runtime.cgocall"}) {
      if (absl::StartsWith(function, one)) return true;
    }
    return false;
  }

  // Go's runtime maps memory for its heap, and for tables of its own.
  bool IsGoHeapStack(size_t index, uint32_t key) {
    const std::vector<uint32_t> frames = NameStack(index, key).frames;
    return std::any_of(frames.begin(), frames.end(), [&](uint32_t frame) {
      const std::string& function = frames_.At(frame).function;
      return function == "runtime.(*mheap).sysAlloc" || function == "runtime.(*mheap).grow";
    });
  }

  void AddMemory(size_t index) {
    const ProcessHistory& history = History(index);
    if (!history.layout) return;
    const StackNamer name = [&](uint32_t key) { return NameStack(index, key); };
    const double at = Seconds(history.layout->map.time_ns);
    ReportMemory& memory = report_.processes[index].memory;
    memory.accounting = MakeAccounting(
        AccountMemory(history, [&](uint32_t key) { return IsGoHeapStack(index, key); }), at, name);
    memory.retained = memory.accounting->retained;
    // Where blocks were drawn, what lies between them is not free.
    if (history.mode == Mode::kSample) return;
    report_.fragmentation.push_back(MakeFragmentation(FindFragmentation(history), index, at, name));
  }

  static void AddStats(const StackStats& from, StackStats& to) {
    to.live_bytes += from.live_bytes;
    to.live_blocks += from.live_blocks;
    to.allocations += from.allocations;
    to.frees += from.frees;
    to.bytes += from.bytes;
    to.peak_bytes += from.peak_bytes;
    to.first_ns = std::min(to.first_ns, from.first_ns);
    to.last_ns = std::max(to.last_ns, from.last_ns);
    to.smallest = std::min(to.smallest, from.smallest);
    to.largest = std::max(to.largest, from.largest);
    to.oldest_ns = std::min(to.oldest_ns, from.oldest_ns);
    to.newest_ns = std::max(to.newest_ns, from.newest_ns);
    to.variances.Add(from.variances);
    to.live_drawn += from.live_drawn;
  }

  ReportGroup MakeGroup(uint32_t number) const {
    const GroupKey& key = groups_[number];
    const StackStats stats = StatsOf(number);
    ReportGroup group;
    group.processes = ProcessesOf(number);
    group.domain = DomainName(key.domain);
    group.mapping = MappingName(key.domain, key.mapping);
    group.counts_as_memory = CountsAsMemory(number);
    uint32_t device = kNoDevice;
    bool first = true;
    for (const Member& member : MembersOf(number)) {
      const ProcessHistory& history = History(member.process);
      const StackKey& stack = member.stack->first;
      const uint32_t one = DeviceOf(history, stack);
      if (device != one) device = first ? one : kNoDevice;
      first = false;
      const auto implicit =
          history.gpu.implicit.find({static_cast<uint32_t>(stack.stack), stack.domain});
      if (implicit == history.gpu.implicit.end()) continue;
      group.implicitly_freed_blocks += implicit->second.blocks;
      group.implicitly_freed_bytes += implicit->second.bytes;
    }
    if (device != kNoDevice) group.device = device;
    group.thread = thread_names_[key.thread];
    group.live_bytes = stats.live_bytes;
    group.live_blocks = stats.live_blocks;
    group.smallest_block = stats.smallest == kNever ? 0 : stats.smallest;
    group.largest_block = stats.largest;
    group.allocations = stats.allocations;
    group.frees = stats.frees;
    group.allocated_bytes = stats.bytes;
    group.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
    group.errors = ErrorsOf(number, stats);
    group.first_seen = Seconds(stats.first_ns);
    group.last_seen = Seconds(stats.last_ns);
    group.frames = frames_.paths().Frames(key.path);
    group.blamed_frame = BlamedFrame(group.frames);
    AddDiagnosis(number, stats, group);
    return group;
  }

  StackNames NamesOf(FramePaths::Path stack) const {
    StackNames names;
    const FramePaths& paths = frames_.paths();
    for (FramePaths::Path path = stack; path != FramePaths::kEmpty; path = paths.Outer(path)) {
      const ReportFrame& frame = frames_.At(paths.Frame(path));
      names.functions.push_back(frame.function);
      names.modules.push_back(frame.module);
    }
    return names;
  }

  static std::optional<ReportRate> RateOf(const std::optional<GrowthRate>& rate) {
    if (!rate) return std::nullopt;
    return ReportRate{rate->value, rate->low, rate->high};
  }

  // What a scan found of the group's blocks, where one was made. It tells stacks apart, not
  // threads.
  std::optional<GroupLost> ScanOf(uint32_t group) const {
    std::optional<GroupLost> lost;
    if (groups_[group].domain != Domain::kHeap || query_.group_by == GroupBy::kThread) return lost;
    uint64_t scan_ns = 0;
    for (const Member& member : MembersOf(group)) {
      const ProcessHistory& history = History(member.process);
      if (!history.scan) continue;
      if (!lost) lost.emplace();
      scan_ns = std::max(scan_ns, history.scan->time_ns);
      const auto it = history.scan->stacks.find(static_cast<uint32_t>(member.stack->first.stack));
      if (it != history.scan->stacks.end()) lost->blocks.Add(it->second);
    }
    if (lost) lost->scan_seconds = Seconds(scan_ns);
    return lost;
  }

  // Whether the figures of the process, by themselves, could make anything a leak.
  bool MayJudge(size_t process) const {
    const ProcessHistory& history = History(process);
    if (!unloads_.empty()) return true;
    const size_t slots = history.series.request_slots();
    const uint64_t requests = slots == 0 ? 0 : history.series.RequestsAt(slots - 1);
    const double begin = Seconds(std::max(history.complete_from_ns(), session_.since_ns));
    const double end = Seconds(std::min(history.end_ns, session_.until_ns));
    return EnoughToJudge(requests, end - begin);
  }

  Judgement Judge(uint32_t group, const StackStats& stats, Detail detail) const {
    Judgement judgement;
    const absl::Span<const Member> members = MembersOf(group);
    std::optional<GroupLost> lost = ScanOf(group);
    const auto names = [&] { return NamesOf(groups_[group].path); };
    uint64_t most = 0;
    double growth = 0;
    std::vector<const StackStats*> stacks;
    for (size_t begin = 0, end = 0; begin < members.size(); begin = end) {
      const size_t process = members[begin].process;
      stacks.clear();
      for (; end < members.size() && members[end].process == process; ++end) {
        stacks.push_back(&members[end].stack->second);
      }
      const bool first = judgement.parts++ == 0;
      // By size, only leaks are ranked by their growth.
      if (detail == Detail::kFigures && query_.order == GroupOrder::kLiveBytes && !lost &&
          !MayJudge(process)) {
        continue;
      }
      GroupHistory history = MakeGroupHistory(session_, History(process), stacks);
      history.counts_as_memory = CountsAsMemory(group);
      Diagnosis diagnosis = Diagnose(history, names, unloads_, detail);
      growth += diagnosis.growth_bytes;
      if (report_.timeline && detail == Detail::kAll) {
        AddCurve({history.over_time, history.process_start, history.process_end},
                 report_.timeline->times, judgement.curve);
      }
      const bool leaks = GrowsWithoutBound(diagnosis.verdict);
      const bool chosen_leaks = GrowsWithoutBound(judgement.diagnosis.verdict);
      const bool better = leaks != chosen_leaks ? leaks : history.stats.live_bytes > most;
      if (!first && !better) continue;
      most = history.stats.live_bytes;
      judgement.of = process;
      judgement.diagnosis = std::move(diagnosis);
    }
    judgement.growth_bytes = static_cast<int64_t>(std::llround(growth));
    // What is within the chance of the draw is no growth.
    const std::optional<ReportErrors> errors = ErrorsOf(group, stats);
    const double doubt = errors ? 2 * errors->live_bytes : 0;
    judgement.growing = growth > doubt && stats.allocations > 1;
    if (lost) {
      judgement.lost = lost->blocks;
      lost->live_bytes = stats.live_bytes;
      lost->grows = judgement.growing;
      ApplyScan(*lost, judgement.diagnosis);
    }
    const Verdict verdict = judgement.diagnosis.verdict;
    judgement.leaks = GrowsWithoutBound(verdict) || verdict == Verdict::kRetainedAfterUnload;
    if (stats.live_blocks == 0) judgement.leaks = judgement.growing = false;
    return judgement;
  }

  void AddDiagnosis(uint32_t number, const StackStats& stats, ReportGroup& group) const {
    Judgement judgement = Judge(number, stats, Detail::kAll);
    Diagnosis& chosen = judgement.diagnosis;
    group.growth_bytes = judgement.growth_bytes;
    group.growing = judgement.growing;
    group.leaks = judgement.leaks;
    group.curve = std::move(judgement.curve);
    if (judgement.lost) group.lost = LostOf(*judgement.lost);
    group.verdict = VerdictName(chosen.verdict);
    group.confidence = chosen.confidence;
    group.warm = chosen.warm_seconds;
    group.bytes_per_request = RateOf(chosen.per_request);
    group.bytes_per_token = RateOf(chosen.per_token);
    group.bytes_per_hour = RateOf(chosen.per_hour);
    group.evidence = std::move(chosen.evidence);
    if (group.errors) {
      group.evidence.insert(
          group.evidence.begin() + 1,
          absl::StrCat("about ", EstimateText(group.live_bytes, group.live_blocks, *group.errors)));
    }
    if (judgement.parts > 1) {
      const ReportProcess& of = report_.processes[judgement.of];
      group.evidence.push_back(absl::StrCat(
          "in ", judgement.parts, " processes; the verdict is of ", of.name, " [", of.pid, "]"));
    }
    group.site = std::move(chosen.site);
    group.advice = std::move(chosen.advice);
    if (group.live_blocks == 0) {  // it keeps nothing: there is nothing to judge
      group.verdict = "freed";
      group.evidence.clear();
      group.advice.clear();
    }
  }

  bool MayBeLeak(uint32_t group, const Judgement& judgement) const {
    if (!CountsAsMemory(group)) return false;
    const absl::Span<const Member> members = MembersOf(group);
    const auto ended = [&](ProcessEnd end) {
      return [this, end](const Member& member) { return History(member.process).end == end; };
    };
    // What a program held when it gave way to another one is gone.
    if (std::all_of(members.begin(), members.end(), ended(ProcessEnd::kExec))) return false;
    if (judgement.growing || judgement.leaks) return true;
    if (judgement.lost && judgement.lost->definitely.blocks > 0) return true;
    return std::any_of(members.begin(), members.end(), ended(ProcessEnd::kExited));
  }

  // Growth counts in the share of blocks that stayed: a busy cache grows and forgets.
  static double Score(const Judgement& judgement, const StackStats& stats) {
    if (!judgement.growing || judgement.growth_bytes <= 0) return 0;
    return static_cast<double>(judgement.growth_bytes) * static_cast<double>(stats.live_blocks) /
           static_cast<double>(std::max<uint64_t>(stats.allocations, 1));
  }

  // What is surely a leak comes first, whatever its size.
  static double Leaked(const Judgement& judgement) {
    constexpr double kSure = 0.5;
    if (!judgement.leaks || judgement.diagnosis.confidence < kSure) return 0;
    return std::max(1.0, static_cast<double>(judgement.growth_bytes)) *
           judgement.diagnosis.confidence;
  }

  bool Before(const Candidate& a, const Candidate& b) const {
    if (a.leaked != b.leaked) return a.leaked > b.leaked;
    if (query_.order == GroupOrder::kGrowth && a.score != b.score) return a.score > b.score;
    if (a.counts_as_memory != b.counts_as_memory) return a.counts_as_memory;
    if (a.live_bytes != b.live_bytes) return a.live_bytes > b.live_bytes;
    if (a.live_blocks != b.live_blocks) return a.live_blocks > b.live_blocks;
    const GroupKey &x = groups_[a.group], &y = groups_[b.group];
    if (query_.merge_processes || x.owner != y.owner) {
      const std::vector<size_t> of_a = ProcessesOf(a.group), of_b = ProcessesOf(b.group);
      if (of_a != of_b) return of_a < of_b;
    }
    const auto words = [&](const GroupKey& key) {
      return std::make_tuple(absl::string_view(DomainName(key.domain)),
                             absl::string_view(MappingName(key.domain, key.mapping)),
                             absl::string_view(thread_names_[key.thread]));
    };
    if (x.domain != y.domain || x.mapping != y.mapping || x.thread != y.thread) {
      if (words(x) != words(y)) return words(x) < words(y);
    }
    const int order = frames_.paths().Compare(x.path, y.path);
    return order != 0 ? order < 0 : a.group < b.group;
  }

  void AddCoverage() {
    ReportCoverage& coverage = report_.coverage;
    std::vector<std::pair<std::string, std::vector<size_t>>>
        notes;  // each text once, with its processes
    std::map<std::string, size_t> known;
    const auto note = [&](size_t process, std::string text) {
      const auto [it, added] = known.try_emplace(text, notes.size());
      if (added) notes.push_back({std::move(text), {}});
      notes[it->second].second.push_back(process);
    };
    for (size_t i = 0; i < order_.size(); ++i) {
      const ProcessHistory& history = History(i);
      const ReadSummary& summary = history.summary;
      coverage.damaged_chunks += summary.damaged_chunks;
      coverage.dropped_bytes += summary.dropped_bytes;
      coverage.truncated_traces += summary.truncated ? 1 : 0;
      coverage.unknown_records += summary.unknown_records;
      coverage.unmatched_frees += history.unmatched_frees;
      coverage.allocations_over_live += history.allocs_over_live;
      coverage.lost_events += report_.processes[i].lost_events;
      for (const auto& [kind, events] : history.losses) {
        if (events == 0) continue;
        coverage.losses.push_back({i, LossName(kind), events});
        note(i,
             kind == LossKind::kStackTableFull
                 ? absl::StrCat(FormatCount(events),
                                " stacks were cut short: the table of stacks is full")
                 : absl::StrCat(FormatCount(events), " events were lost (", LossName(kind), ")"));
      }
      if (!history.has_header)
        note(i, "the beginning of the trace is missing: its process is unknown");
      if (history.segment != 0) {
        note(i, absl::StrCat("history before ", FormatSeconds(Seconds(history.segment_ns)),
                             " was dropped to stay within OLLAMATRACE_MAX_BYTES: what is live and "
                             "the sums are exact, what came and went before has no times"));
      }
      if (history.end == ProcessEnd::kStopped) {
        note(i, "recording stopped before the process ended: what it did afterwards is not known");
      }
      if (history.end == ProcessEnd::kKilled && !summary.has_journal) {
        note(i,
             "neither an end nor a journal: it was killed, or its trace was copied alone while it "
             "ran");
      }
      if (history.mode == Mode::kSample && history.sample_bytes == 0) {
        note(i,
             "allocations were sampled, and it is not known how: the figures are those of the "
             "samples");
      }
      if (history.unmatched_frees > 0) {
        note(i, absl::StrCat(FormatCount(history.unmatched_frees),
                             " frees of blocks that the trace does not know"));
      }
      if (history.allocs_over_live > 0) {
        note(i, absl::StrCat(FormatCount(history.allocs_over_live),
                             " allocations over blocks that were live: their frees are missing"));
      }
      if (const std::string text = GpuNote(report_.processes[i].gpu); !text.empty()) note(i, text);
      for (const std::string& text : summary.notes) note(i, text);
      for (const std::string& text : history.messages) note(i, text);
      if (history.messages_dropped > 0) {
        note(i,
             absl::StrCat(FormatCount(history.messages_dropped), " more messages of the library"));
      }
    }
    coverage.notes = session_.notes;
    for (const auto& [text, processes] : notes) {
      const ReportProcess& first = report_.processes[processes.front()];
      coverage.notes.push_back(processes.size() == 1
                                   ? absl::StrCat(first.name, " [", first.pid, "]: ", text)
                                   : absl::StrCat(first.name, " [", first.pid, "] and ",
                                                  processes.size() - 1, " more: ", text));
    }
    coverage.unreadable_traces = session_.unreadable_traces;
    coverage.modules = frames_.Modules();
    coverage.complete = coverage.lost_events == 0 && coverage.unreadable_traces == 0 &&
                        coverage.damaged_chunks == 0 && coverage.dropped_bytes == 0 &&
                        coverage.truncated_traces == 0 && coverage.unmatched_frees == 0 &&
                        coverage.allocations_over_live == 0;
  }

  const SessionHistory& session_;
  const ReportQuery& query_;
  const ReportProgress& progress_;
  std::vector<const ProcessHistory*> order_;  // by start, after the filter
  FrameTable frames_;
  std::vector<Unload> unloads_;
  std::vector<GroupKey> groups_;
  std::vector<Member> members_;       // by group
  std::vector<size_t> first_member_;  // of each group, and the end of all
  std::vector<std::string> thread_names_;
  Report report_;
};

}  // namespace

Report BuildReport(const SessionHistory& session, const ReportQuery& query, SymbolSource& symbols,
                   const ReportProgress& progress) {
  return Builder(session, query, symbols, progress).Build();
}

}  // namespace ollamatrace
