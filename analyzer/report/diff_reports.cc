#include "analyzer/report/diff_reports.h"

#include <algorithm>
#include <map>
#include <tuple>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/string_view.h"
#include "analyzer/text/function_name.h"

namespace ollamatrace {
namespace {

// "libggml.so" of "/usr/lib/libggml.so.0.9.4": what stays when a library is built anew.
absl::string_view ModuleName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  if (slash != absl::string_view::npos) path = path.substr(slash + 1);
  const size_t version = path.find(".so.");
  return version == absl::string_view::npos ? path : path.substr(0, version + 3);
}

// An address means something only in the very same build.
std::string FrameKey(const ReportFrame& frame) {
  const absl::string_view module = ModuleName(frame.module);
  if (!frame.function.empty()) return absl::StrCat(QualifiedName(frame.function), "@", module);
  return absl::StrCat("+", absl::Hex(frame.offset), "@", module, "@", frame.build_id);
}

// What was the same in both: who, what kind of memory.
using Kind = std::tuple<std::string, std::string, std::string>;  // program, domain, mapping

struct Stack {
  Kind kind;
  bool counts_as_memory = true;
  std::vector<std::string> names;  // innermost first
  std::string blamed;              // the first named frame from the blamed one on
  size_t blamed_at = 0;
  DiffSide side;
  uint64_t largest = 0;
  std::vector<uint32_t> frames;  // of its report
  size_t blamed_frame = 0;
  bool taken = false;
};

std::vector<Stack> Stacks(const Report& report) {
  std::map<std::pair<Kind, std::vector<std::string>>, Stack> stacks;
  for (size_t index = 0; index < report.groups.size(); ++index) {
    const ReportGroup& group = report.groups[index];
    Stack fresh;
    fresh.kind = {group.processes.empty() ? "" : report.processes[group.processes[0]].name,
                  group.domain, group.mapping};
    fresh.counts_as_memory = CountsAsMemory(group);
    for (const uint32_t frame : group.frames) {
      fresh.names.push_back(FrameKey(report.frames[frame]));
    }
    Stack& stack = stacks[{fresh.kind, fresh.names}];
    if (stack.side.verdict.empty() || group.live_bytes > stack.largest) {
      fresh.blamed_at = group.blamed_frame;
      for (size_t i = group.blamed_frame; i < group.frames.size(); ++i) {
        if (report.frames[group.frames[i]].function.empty()) continue;
        fresh.blamed = fresh.names[i];
        fresh.blamed_at = i;
        break;
      }
      fresh.side = stack.side;
      fresh.side.verdict = group.verdict;
      fresh.largest = group.live_bytes;
      fresh.frames = group.frames;
      fresh.blamed_frame = group.blamed_frame;
      stack = std::move(fresh);
    }
    stack.side.groups.push_back(index);
    stack.side.live_bytes += group.live_bytes;
    stack.side.live_blocks += group.live_blocks;
    stack.side.allocations += group.allocations;
    if (group.bytes_per_request) {
      stack.side.bytes_per_request =
          stack.side.bytes_per_request.value_or(0) + group.bytes_per_request->value;
    }
  }
  std::vector<Stack> result;
  for (auto& [key, stack] : stacks) result.push_back(std::move(stack));
  return result;
}

// How many frames two stacks with the same blamed function share: outwards from it, and inwards
// from the thread's beginning.
size_t Likeness(const Stack& a, const Stack& b) {
  const size_t a_left = a.names.size() - a.blamed_at, b_left = b.names.size() - b.blamed_at;
  const size_t most = std::min(a_left, b_left);
  size_t out = 0;
  while (out < most && a.names[a.blamed_at + out] == b.names[b.blamed_at + out]) ++out;
  size_t in = 0;
  while (in < most - out && a.names[a.names.size() - 1 - in] == b.names[b.names.size() - 1 - in]) {
    ++in;
  }
  return out + in;
}

class Differ {
 public:
  Differ(const Report& before, const Report& after) : before_(before), after_(after) {}

  ReportDiff Run() {
    diff_.before = Session(before_);
    diff_.after = Session(after_);
    old_ = Stacks(before_);
    new_ = Stacks(after_);
    MatchStacks();
    MatchFunctions();
    for (Stack& stack : old_) {
      if (!stack.taken) Add(&stack, nullptr, DiffEntry::Match::kNone);
    }
    for (Stack& stack : new_) {
      if (!stack.taken) Add(nullptr, &stack, DiffEntry::Match::kNone);
    }
    // Stable: equal ones stay in the order of their names, which is that of the maps.
    std::stable_sort(diff_.entries.begin(), diff_.entries.end(),
                     [](const DiffEntry& a, const DiffEntry& b) {
                       const bool a_apart = !a.counts_as_memory;
                       const bool b_apart = !b.counts_as_memory;
                       return std::tie(a_apart, b.delta_bytes) < std::tie(b_apart, a.delta_bytes);
                     });
    return std::move(diff_);
  }

 private:
  static DiffSession Session(const Report& report) {
    return {report.title, report.duration, report.requests, report.live_bytes_in_all};
  }

  void MatchStacks() {
    std::map<std::pair<Kind, std::vector<std::string>>, Stack*> by_names;
    for (Stack& stack : old_) by_names[{stack.kind, stack.names}] = &stack;
    for (Stack& stack : new_) {
      const auto it = by_names.find({stack.kind, stack.names});
      if (it != by_names.end()) Add(it->second, &stack, DiffEntry::Match::kStack);
    }
  }

  // The most alike first.
  void MatchFunctions() {
    std::map<std::pair<Kind, std::string>, std::vector<Stack*>> by_function;
    for (Stack& stack : old_) {
      if (!stack.taken && !stack.blamed.empty()) {
        by_function[{stack.kind, stack.blamed}].push_back(&stack);
      }
    }
    std::vector<std::tuple<size_t, Stack*, Stack*>> pairs;
    for (Stack& stack : new_) {
      if (stack.taken || stack.blamed.empty()) continue;
      const auto it = by_function.find({stack.kind, stack.blamed});
      if (it == by_function.end()) continue;
      for (Stack* candidate : it->second) {
        pairs.emplace_back(Likeness(*candidate, stack), candidate, &stack);
      }
    }
    std::stable_sort(pairs.begin(), pairs.end(),
                     [](const auto& a, const auto& b) { return std::get<0>(a) > std::get<0>(b); });
    for (const auto& [likeness, one, other] : pairs) {
      if (!one->taken && !other->taken) Add(one, other, DiffEntry::Match::kFunction);
    }
  }

  void Add(Stack* before, Stack* after, DiffEntry::Match match) {
    const Stack& shown = after != nullptr ? *after : *before;
    const Report& report = after != nullptr ? after_ : before_;
    DiffEntry entry;
    entry.match = match;
    std::tie(entry.program, entry.domain, entry.mapping) = shown.kind;
    entry.counts_as_memory = shown.counts_as_memory;
    if (before != nullptr) entry.before = before->side;
    if (after != nullptr) entry.after = after->side;
    entry.delta_bytes = static_cast<int64_t>(entry.after.live_bytes - entry.before.live_bytes);
    for (const uint32_t frame : shown.frames) {
      entry.frames.push_back(static_cast<uint32_t>(diff_.frames.size()));
      diff_.frames.push_back(report.frames[frame]);
    }
    entry.blamed_frame = shown.blamed_frame;
    if (before != nullptr) before->taken = true;
    if (after != nullptr) after->taken = true;
    diff_.entries.push_back(std::move(entry));
  }

  const Report& before_;
  const Report& after_;
  std::vector<Stack> old_;
  std::vector<Stack> new_;
  ReportDiff diff_;
};

}  // namespace

ReportDiff DiffReports(const Report& before, const Report& after) {
  return Differ(before, after).Run();
}

}  // namespace ollamatrace
