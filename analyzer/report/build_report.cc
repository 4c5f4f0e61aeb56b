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

// What the blocks of one group add up to, over stacks (and processes).
struct Sum {
  std::vector<size_t> processes;  // ascending, each once
  Domain domain = Domain::kHeap;
  MappingClass mapping = MappingClass::kAnonymous;
  std::string thread;
  std::vector<uint32_t> frames;
  StackStats stats;
  uint32_t device = kNoDevice;  // of a GPU domain, when it is but one
  ImplicitFrees implicit;
  // The stacks of each of `processes`.
  std::vector<std::vector<const StackStats*>> parts;
  std::optional<LostBlocks> lost;
  uint64_t scan_ns = 0;  // the last scan's
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
  std::vector<uint32_t> GroupFrames(std::vector<uint32_t> stack) {
    if (query_.group_by == GroupBy::kStack || stack.empty()) return stack;
    if (query_.group_by == GroupBy::kThread) return {};
    ReportFrame frame = frames_.At(stack[BlamedFrame(stack)]);
    if (query_.group_by == GroupBy::kModule) {
      frame = ReportFrame{.module = frame.module, .build_id = frame.build_id};
    } else if (!frame.function.empty()) {
      frame.line = 0;
      frame.offset = 0;
      frame.inlined = false;
    }
    return {frames_.Intern(std::move(frame))};
  }

  size_t BlamedFrame(const std::vector<uint32_t>& stack) const {
    for (size_t i = 0; i < stack.size(); ++i) {
      if (!frames_.At(stack[i]).plumbing) return i;
    }
    return 0;
  }

  bool StackPasses(const std::vector<uint32_t>& stack) const {
    const auto any_frame = [&](const auto& matches) {
      return std::any_of(stack.begin(), stack.end(),
                         [&](uint32_t frame) { return matches(frames_.At(frame)); });
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
    // Program (or process), domain, mapping, thread, frames.
    using Key = std::tuple<std::string, Domain, MappingClass, std::string, std::vector<uint32_t>>;
    absl::flat_hash_map<Key, Sum> sums;
    uint64_t in_all = 0, done = 0;
    for (const ProcessHistory* history : order_) in_all += history->stacks.size();
    for (size_t i = 0; i < order_.size(); ++i) {
      const ProcessHistory& history = History(i);
      // In a fixed order: names are given to the first of what looks the same.
      std::vector<std::pair<StackKey, const StackStats*>> stacks;
      for (const auto& [key, stats] : history.stacks) {
        if (stats.live_blocks > 0 || query_.include_freed) stacks.emplace_back(key, &stats);
      }
      std::sort(stacks.begin(), stacks.end(), [](const auto& a, const auto& b) {
        const StackKey &x = a.first, &y = b.first;
        return std::tie(x.stack, x.thread, x.domain, x.mapping) <
               std::tie(y.stack, y.thread, y.domain, y.mapping);
      });
      done += history.stacks.size() - stacks.size();
      for (const auto& [key, stats] : stacks) {
        if (progress_ && ++done % 256 == 0) progress_(done, in_all);
        if (!Passes(query_.domains,
                    [&](const std::string& wanted) { return wanted == DomainName(key.domain); })) {
          continue;
        }
        std::vector<uint32_t> stack = frames_.Expand(i, history, key.stack);
        if (!StackPasses(stack)) continue;
        stack = GroupFrames(std::move(stack));
        const std::string thread = ThreadName(history, key.thread);
        Key group{query_.merge_processes ? history.exe : absl::StrCat(i), key.domain, key.mapping,
                  thread, stack};
        const auto [it, added] = sums.try_emplace(std::move(group));
        Sum& sum = it->second;
        const uint32_t device = DeviceOf(history, key);
        if (sum.device != device) sum.device = added ? device : kNoDevice;
        const auto implicit =
            history.gpu.implicit.find({static_cast<uint32_t>(key.stack), key.domain});
        if (implicit != history.gpu.implicit.end()) {
          sum.implicit.blocks += implicit->second.blocks;
          sum.implicit.bytes += implicit->second.bytes;
        }
        if (added) {
          sum.domain = key.domain;
          sum.mapping = key.mapping;
          sum.thread = thread;
          sum.frames = std::move(stack);
        }
        if (sum.processes.empty() || sum.processes.back() != i) {
          sum.processes.push_back(i);
          sum.parts.emplace_back();
        }
        sum.parts.back().push_back(stats);
        AddStats(*stats, sum.stats);
        AddLost(history, key, sum);
      }
    }
    std::vector<ReportGroup> groups;
    uint64_t live_bytes = 0;
    for (auto& [key, sum] : sums) {
      if (sum.stats.live_bytes < query_.min_bytes) continue;
      groups.push_back(MakeGroup(sum));
      if (CountsAsMemory(groups.back())) live_bytes += sum.stats.live_bytes;
    }
    sums.clear();
    if (query_.order == GroupOrder::kGrowth) {
      std::erase_if(groups, [&](const ReportGroup& group) { return !MayBeLeak(group); });
      live_bytes = 0;
      for (const ReportGroup& group : groups) live_bytes += group.live_bytes;
    }
    std::sort(groups.begin(), groups.end(),
              [&](const ReportGroup& a, const ReportGroup& b) { return Before(a, b); });
    report_.groups_in_all = groups.size();
    report_.live_bytes_in_all = live_bytes;
    double variance = 0;
    for (const ReportGroup& group : groups) {
      if (group.errors) variance += group.errors->live_bytes * group.errors->live_bytes;
    }
    if (std::any_of(groups.begin(), groups.end(),
                    [](const ReportGroup& group) { return group.errors.has_value(); })) {
      report_.live_bytes_error = std::sqrt(variance);
    }
    for (size_t i = 0; i < groups.size(); ++i) {
      groups[i].rank = i + 1;
      if (CountsAsMemory(groups[i]) && live_bytes > 0) {
        groups[i].share =
            static_cast<double>(groups[i].live_bytes) / static_cast<double>(live_bytes);
      }
    }
    report_.groups = std::move(groups);
    report_.headline = Headline(live_bytes);  // of all, also those that are not shown
    if (query_.top != 0 && report_.groups.size() > query_.top) report_.groups.resize(query_.top);
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

  std::string Headline(uint64_t live_bytes) const {
    const auto bytes = [](uint64_t count) { return FormatBytes(static_cast<double>(count)); };
    const auto first = std::find_if(report_.groups.begin(), report_.groups.end(), CountsAsMemory);
    if (first == report_.groups.end()) return "";
    if (Leaked(*first) > 0) {
      const size_t more = static_cast<size_t>(std::count_if(
                              report_.groups.begin(), report_.groups.end(),
                              [](const ReportGroup& group) { return Leaked(group) > 0; })) -
                          1;
      const std::string rate = RateText(*first);
      return absl::StrCat(first->verdict, ": ", WhoHolds(*first), " keeps ",
                          bytes(first->live_bytes), " of ", bytes(live_bytes),
                          rate.empty() ? "" : absl::StrCat(" and grows by ", rate),
                          more == 0 ? "" : absl::StrCat("; ", more, " more like it"));
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

  ReportGroup MakeGroup(Sum& sum) const {
    const StackStats& stats = sum.stats;
    ReportGroup group;
    group.processes = sum.processes;
    group.domain = DomainName(sum.domain);
    group.mapping = MappingName(sum.domain, sum.mapping);
    group.counts_as_memory = IsOwnMemory(sum.domain) && (sum.domain != Domain::kMapping ||
                                                         sum.mapping == MappingClass::kAnonymous);
    if (sum.device != kNoDevice) group.device = sum.device;
    group.implicitly_freed_blocks = sum.implicit.blocks;
    group.implicitly_freed_bytes = sum.implicit.bytes;
    group.thread = sum.thread;
    group.live_bytes = stats.live_bytes;
    group.live_blocks = stats.live_blocks;
    group.smallest_block = stats.smallest == kNever ? 0 : stats.smallest;
    group.largest_block = stats.largest;
    group.allocations = stats.allocations;
    group.frees = stats.frees;
    group.allocated_bytes = stats.bytes;
    group.peak_bytes = std::max(stats.peak_bytes, stats.live_bytes);
    for (const size_t i : group.processes) {
      if (!group.errors) group.errors = Errors(i, sum.domain, stats);
    }
    group.first_seen = Seconds(stats.first_ns);
    group.last_seen = Seconds(stats.last_ns);
    group.frames = std::move(sum.frames);
    group.blamed_frame = BlamedFrame(group.frames);
    AddDiagnosis(sum, group);
    return group;
  }

  // A scan tells stacks apart, not threads.
  void AddLost(const ProcessHistory& history, const StackKey& key, Sum& sum) const {
    if (!history.scan || key.domain != Domain::kHeap || query_.group_by == GroupBy::kThread) return;
    if (!sum.lost) sum.lost.emplace();
    sum.scan_ns = std::max(sum.scan_ns, history.scan->time_ns);
    const auto it = history.scan->stacks.find(static_cast<uint32_t>(key.stack));
    if (it != history.scan->stacks.end()) sum.lost->Add(it->second);
  }

  StackNames NamesOf(const std::vector<uint32_t>& frames) const {
    StackNames names;
    for (const uint32_t index : frames) {
      const ReportFrame& frame = frames_.At(index);
      names.functions.push_back(frame.function);
      names.modules.push_back(frame.module);
    }
    return names;
  }

  static std::optional<ReportRate> RateOf(const std::optional<GrowthRate>& rate) {
    if (!rate) return std::nullopt;
    return ReportRate{rate->value, rate->low, rate->high};
  }

  // Of a group in several processes: the diagnosis of the one that leaks or, where none does or
  // several do, that holds the most.
  void AddDiagnosis(const Sum& sum, ReportGroup& group) const {
    const StackNames names = NamesOf(group.frames);
    Diagnosis chosen;
    uint64_t most = 0;
    size_t of = 0;
    double growth = 0;
    for (size_t i = 0; i < sum.parts.size(); ++i) {
      GroupHistory history = MakeGroupHistory(session_, History(sum.processes[i]), sum.parts[i]);
      history.counts_as_memory = group.counts_as_memory;
      Diagnosis diagnosis = Diagnose(history, names, unloads_);
      growth += diagnosis.growth_bytes;
      if (report_.timeline) {
        AddCurve({history.over_time, history.process_start, history.process_end},
                 report_.timeline->times, group.curve);
      }
      const bool leaks = GrowsWithoutBound(diagnosis.verdict);
      const bool chosen_leaks = GrowsWithoutBound(chosen.verdict);
      const bool better = leaks != chosen_leaks ? leaks : history.stats.live_bytes > most;
      if (i > 0 && !better) continue;
      most = history.stats.live_bytes;
      of = sum.processes[i];
      chosen = std::move(diagnosis);
    }
    group.growth_bytes = static_cast<int64_t>(std::llround(growth));
    // What is within the chance of the draw is no growth.
    const double doubt = group.errors ? 2 * group.errors->live_bytes : 0;
    group.growing = growth > doubt && group.allocations > 1;
    if (sum.lost) {
      group.lost = LostOf(*sum.lost);
      ApplyScan({*sum.lost, Seconds(sum.scan_ns), group.live_bytes, group.growing}, chosen);
    }
    group.verdict = VerdictName(chosen.verdict);
    group.leaks =
        GrowsWithoutBound(chosen.verdict) || chosen.verdict == Verdict::kRetainedAfterUnload;
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
    if (sum.parts.size() > 1) {
      group.evidence.push_back(
          absl::StrCat("in ", sum.parts.size(), " processes; the verdict is of ",
                       report_.processes[of].name, " [", report_.processes[of].pid, "]"));
    }
    group.site = std::move(chosen.site);
    group.advice = std::move(chosen.advice);
    if (group.live_blocks == 0) {  // it keeps nothing: there is nothing to judge
      group.verdict = "freed";
      group.leaks = group.growing = false;
      group.evidence.clear();
      group.advice.clear();
    }
  }

  bool MayBeLeak(const ReportGroup& group) const {
    if (!CountsAsMemory(group)) return false;
    // What a program held when it gave way to another one is gone.
    if (std::all_of(group.processes.begin(), group.processes.end(),
                    [&](size_t i) { return History(i).end == ProcessEnd::kExec; })) {
      return false;
    }
    if (group.growing || group.leaks) return true;
    if (group.lost && group.lost->definitely_blocks > 0) return true;
    return std::any_of(group.processes.begin(), group.processes.end(),
                       [&](size_t i) { return History(i).end == ProcessEnd::kExited; });
  }

  // Growth counts in the share of blocks that stayed: a busy cache grows and forgets.
  static double Score(const ReportGroup& group) {
    if (!group.growing || group.growth_bytes <= 0) return 0;
    return static_cast<double>(group.growth_bytes) * static_cast<double>(group.live_blocks) /
           static_cast<double>(std::max<uint64_t>(group.allocations, 1));
  }

  // What is surely a leak comes first, whatever its size.
  static double Leaked(const ReportGroup& group) {
    constexpr double kSure = 0.5;
    if (!group.leaks || group.confidence < kSure) return 0;
    return std::max(1.0, static_cast<double>(group.growth_bytes)) * group.confidence;
  }

  bool Before(const ReportGroup& a, const ReportGroup& b) const {
    const double a_leaked = Leaked(a), b_leaked = Leaked(b);
    if (a_leaked != b_leaked) return a_leaked > b_leaked;
    if (query_.order == GroupOrder::kGrowth) {
      const double x = Score(a), y = Score(b);
      if (x != y) return x > y;
    }
    const bool a_apart = !CountsAsMemory(a), b_apart = !CountsAsMemory(b);
    return std::tie(a_apart, b.live_bytes, b.live_blocks, a.processes, a.domain, a.mapping,
                    a.thread, a.frames) < std::tie(b_apart, a.live_bytes, a.live_blocks,
                                                   b.processes, b.domain, b.mapping, b.thread,
                                                   b.frames);
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
  Report report_;
};

}  // namespace

Report BuildReport(const SessionHistory& session, const ReportQuery& query, SymbolSource& symbols,
                   const ReportProgress& progress) {
  return Builder(session, query, symbols, progress).Build();
}

}  // namespace ollamatrace
