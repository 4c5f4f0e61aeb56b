#include <algorithm>
#include <cmath>
#include <ctime>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analyzer/report/function_name.h"
#include "analyzer/report/renderers.h"
#include "analyzer/report/units.h"

namespace ollamatrace {
namespace {

constexpr size_t kFunctionWidth = 58;
constexpr size_t kPlaceWidth = 52;
constexpr size_t kProcessWidth = 40;
constexpr size_t kMaxNotes = 25;

std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

std::string Plural(uint64_t count, absl::string_view one, absl::string_view many) {
  return absl::StrCat(FormatCount(count), " ", count == 1 ? one : many);
}

absl::string_view BaseName(absl::string_view path) {
  const size_t slash = path.rfind('/');
  return slash == absl::string_view::npos ? path : path.substr(slash + 1);
}

// Names come from the traced program: control characters must not reach the terminal.
std::string Clean(absl::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return clean;
}

// The end of a path, from a slash on.
std::string ShortPath(absl::string_view path, size_t width) {
  if (path.size() <= width) return std::string(path);
  absl::string_view tail = path.substr(path.size() - (width - 3));
  const size_t slash = tail.find('/');
  if (slash != absl::string_view::npos) tail = tail.substr(slash);
  return absl::StrCat("...", tail);
}

std::string ShortStart(absl::string_view text, size_t width) {
  return text.size() <= width ? std::string(text) : absl::StrCat(text.substr(0, width - 3), "...");
}

std::string Column(absl::string_view text, size_t width) {
  std::string column(text);
  if (column.size() < width) column.append(width - column.size(), ' ');
  return column;
}

class Lines {
 public:
  explicit Lines(const OutputSink& sink) : sink_(sink) {}
  void Add(absl::string_view line) {
    const size_t end = line.find_last_not_of(' ');
    sink_(absl::StrCat(line.substr(0, end == absl::string_view::npos ? 0 : end + 1), "\n"));
  }

 private:
  const OutputSink& sink_;
};

std::string WallTime(uint64_t wall_ns) {
  const std::time_t seconds = static_cast<std::time_t>(wall_ns / 1'000'000'000);
  std::tm utc{};
  char text[40];
  if (wall_ns == 0 || gmtime_r(&seconds, &utc) == nullptr ||
      std::strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S UTC", &utc) == 0) {
    return "";
  }
  return text;
}

std::string ProcessName(const ReportProcess& process) {
  std::string name = process.name;
  for (size_t i = 1; i < process.argv.size() && name.size() < 2 * kProcessWidth; ++i) {
    absl::StrAppend(&name, " ", process.argv[i]);
  }
  return Clean(name);
}

// ---- The head and the table of processes ----

void RenderHead(const Report& report, Lines& lines) {
  std::string head =
      absl::StrCat("Session: ", Plural(report.processes.size(), "process", "processes"), ", ",
                   FormatSeconds(report.duration));
  if (const std::string time = WallTime(report.start_wall_ns); !time.empty()) {
    absl::StrAppend(&head, " from ", time);
  }
  if (report.requests > 0)
    absl::StrAppend(&head, ", ", Plural(report.requests, "request", "requests"));
  lines.Add(head);
  if (report.since || report.until) {
    std::string window = "Window: ";
    absl::StrAppend(&window, "allocated from ", FormatSeconds(report.since.value_or(0)), " on");
    if (report.until) absl::StrAppend(&window, ", the state at ", FormatSeconds(*report.until));
    lines.Add(window);
  }
}

// Parents before their children; the depth is the indentation.
void AddTree(const Report& report, std::optional<size_t> parent, size_t depth,
             std::vector<std::pair<size_t, size_t>>& rows) {
  for (size_t i = 0; i < report.processes.size(); ++i) {
    if (report.processes[i].parent != parent) continue;
    rows.emplace_back(i, depth);
    AddTree(report, i, std::min<size_t>(depth + 1, 8), rows);
  }
}

std::vector<std::pair<size_t, size_t>> ProcessRows(const Report& report, const TextOptions& options,
                                                   size_t& hidden, uint64_t& hidden_bytes) {
  std::vector<std::pair<size_t, size_t>> rows;
  AddTree(report, std::nullopt, 0, rows);
  hidden = 0;
  hidden_bytes = 0;
  if (options.processes == 0 || rows.size() <= options.processes) return rows;
  // Those that hold the most stay.
  std::vector<std::pair<uint64_t, size_t>> by_bytes;
  for (size_t i = 0; i < report.processes.size(); ++i) {
    const ReportProcess& process = report.processes[i];
    by_bytes.emplace_back(process.host.live_bytes + process.memory.mapped, i);
  }
  std::stable_sort(by_bytes.begin(), by_bytes.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::vector<bool> shown(report.processes.size(), false);
  for (size_t i = 0; i < options.processes; ++i) shown[by_bytes[i].second] = true;
  for (size_t i = options.processes; i < by_bytes.size(); ++i) hidden_bytes += by_bytes[i].first;
  hidden = by_bytes.size() - options.processes;
  std::erase_if(rows, [&](const auto& row) { return !shown[row.first]; });
  return rows;
}

void RenderProcesses(const Report& report, const TextOptions& options, Lines& lines) {
  size_t hidden = 0;
  uint64_t hidden_bytes = 0;
  const auto rows = ProcessRows(report, options, hidden, hidden_bytes);
  if (rows.empty()) return;
  lines.Add("");
  lines.Add(absl::StrFormat("%8s  %s %-8s %10s %10s %10s %10s %10s", "PID",
                            Column("PROCESS", kProcessWidth), "END", "LIVE HEAP", "BLOCKS",
                            "PEAK HEAP", "MAPPED", "RSS"));
  for (const auto& [index, depth] : rows) {
    const ReportProcess& process = report.processes[index];
    const std::string name =
        ShortStart(absl::StrCat(std::string(2 * depth, ' '), ProcessName(process)), kProcessWidth);
    std::string rss = "-";
    const ReportMemory& memory = process.memory;
    if (memory.rss_anon || memory.rss_file || memory.rss_shmem) {
      rss = Bytes(memory.rss_anon.value_or(0) + memory.rss_file.value_or(0) +
                  memory.rss_shmem.value_or(0));
    }
    lines.Add(absl::StrFormat("%8d  %s %-8s %10s %10s %10s %10s %10s", process.pid,
                              Column(name, kProcessWidth), process.end,
                              Bytes(process.host.live_bytes), FormatCount(process.host.live_blocks),
                              Bytes(process.host.peak_bytes), Bytes(process.memory.mapped), rss));
    for (const ReportDomain& gpu : process.gpu) {
      lines.Add(absl::StrFormat(
          "%8s  %s %-8s %10s %10s %10s", "", Column("  GPU: " + gpu.domain, kProcessWidth), "",
          Bytes(gpu.live_bytes), FormatCount(gpu.live_blocks), Bytes(gpu.peak_bytes)));
    }
  }
  if (hidden > 0) {
    lines.Add(absl::StrFormat("%8s  and %s more, with %s live in all", "", FormatCount(hidden),
                              Bytes(hidden_bytes)));
  }
}

// ---- Groups ----

std::string Place(const ReportFrame& frame, size_t width) {
  if (!frame.file.empty()) {
    const std::string line = frame.line == 0 ? "" : absl::StrCat(":", frame.line);
    return absl::StrCat(ShortPath(Clean(frame.file), width - std::min(width / 2, line.size())),
                        line);
  }
  return ShortPath(Clean(BaseName(frame.module)), width);
}

// "libfoo.so+0x1234": what addr2line takes.
std::string RawPlace(const ReportFrame& frame) {
  if (frame.module.empty()) return absl::StrFormat("0x%x in no module", frame.offset);
  const std::string id =
      frame.build_id.empty() ? "" : absl::StrCat(" [build-id ", frame.build_id.substr(0, 12), "]");
  return absl::StrFormat("%s+0x%x%s", Clean(BaseName(frame.module)), frame.offset, id);
}

std::string FrameName(const ReportFrame& frame, size_t width) {
  if (frame.function.empty()) return RawPlace(frame);
  return ShortFunction(Clean(frame.function), width);
}

void RenderFrames(const Report& report, const ReportGroup& group, const TextOptions& options,
                  Lines& lines) {
  const std::vector<uint32_t>& frames = group.frames;
  const auto one = [&](size_t i) {
    const ReportFrame& frame = report.frames[frames[i]];
    if (report.group_by == "module") {
      lines.Add(
          absl::StrCat("        ", frame.module.empty() ? "in no module" : Clean(frame.module)));
      return;
    }
    const std::string name = FrameName(frame, kFunctionWidth - (frame.inlined ? 10 : 0));
    const std::string place =
        frame.function.empty() && frame.file.empty() ? "" : Place(frame, kPlaceWidth);
    lines.Add(absl::StrCat(
        "      ", i == group.blamed_frame && frames.size() > 1 ? "> " : "  ",
        Column(absl::StrCat(name, frame.inlined ? " (inlined)" : ""), kFunctionWidth), " ", place));
  };
  const auto skipped = [&](size_t count, absl::string_view what) {
    lines.Add(absl::StrCat("        ... ", Plural(count, "frame", "frames"), what));
  };
  if (options.frames == 0 || frames.size() <= options.frames + 1) {
    for (size_t i = 0; i < frames.size(); ++i) one(i);
    return;
  }
  // Of an allocator's or a runtime's own frames the innermost is enough; of the callers, the
  // nearest and the outermost.
  size_t first = 0;
  size_t left = options.frames;
  if (group.blamed_frame > 2) {
    one(0);
    skipped(group.blamed_frame - 1, " of allocator and runtime");
    first = group.blamed_frame;
  }
  if (frames.size() - first <= left + 1) {
    for (size_t i = first; i < frames.size(); ++i) one(i);
    return;
  }
  const size_t outer = left >= 4 ? 2 : 0;
  for (size_t i = first; i < first + left - outer; ++i) one(i);
  skipped(frames.size() - first - left, "");
  for (size_t i = frames.size() - outer; i < frames.size(); ++i) one(i);
}

std::string Owner(const Report& report, const ReportGroup& group) {
  const ReportProcess& first = report.processes[group.processes.front()];
  return group.processes.size() == 1
             ? absl::StrCat(Clean(first.name), " [", first.pid, "]")
             : absl::StrCat(Clean(first.name), " in ", group.processes.size(), " processes");
}

std::string DomainText(const ReportGroup& group) {
  if (group.mapping == "file") return "file mapping";
  if (group.mapping == "reserved") return "address space reserved";
  return group.domain;
}

std::string Rates(const ReportGroup& group) {
  std::vector<std::string> rates;
  if (group.bytes_per_request && std::abs(*group.bytes_per_request) >= 0.5) {
    rates.push_back(FormatBytes(*group.bytes_per_request) + " per request");
  }
  if (group.bytes_per_hour && std::abs(*group.bytes_per_hour) >= 0.5) {
    rates.push_back(FormatBytes(*group.bytes_per_hour) + " per hour");
  }
  return absl::StrJoin(rates, ", ");
}

void RenderGroup(const Report& report, const ReportGroup& group, const TextOptions& options,
                 Lines& lines) {
  lines.Add("");
  const std::string share =
      CountsAsMemory(group.mapping) ? absl::StrFormat("%5.1f %%", group.share * 100) : "     - ";
  lines.Add(absl::StrFormat("#%-4d %10s in %s  %s  %s, %s%s%s", group.rank, Bytes(group.live_bytes),
                            Column(Plural(group.live_blocks, "block", "blocks"), 14), share,
                            DomainText(group), Owner(report, group),
                            group.verdict == "live-at-kill" ? ", live at the kill" : "",
                            group.thread.empty() ? "" : ", " + Clean(group.thread)));
  std::string history =
      absl::StrCat("      seen ", FormatSeconds(group.first_seen), " to ",
                   FormatSeconds(group.last_seen), "; ", FormatCount(group.allocations),
                   " allocated, ", group.frees == 0 ? "none" : FormatCount(group.frees), " freed");
  if (const std::string rates = Rates(group); !rates.empty()) {
    absl::StrAppend(&history, "; ", group.growth_bytes < 0 ? "" : "+", rates);
  }
  lines.Add(history);
  RenderFrames(report, group, options, lines);
}

// ---- Notes ----

void RenderNotes(const Report& report, Lines& lines) {
  const ReportCoverage& coverage = report.coverage;
  std::vector<std::string> notes;
  for (const std::string& note : coverage.notes) notes.push_back(Clean(note));
  if (coverage.unknown_records > 0) {
    notes.push_back(absl::StrCat(FormatCount(coverage.unknown_records),
                                 " records are of kinds that this version does not know"));
  }
  size_t nameless = 0;
  for (const ReportModule& module : coverage.modules) {
    if (module.state == "ok" || module.state == "not-a-file") {
      nameless += module.state == "ok" ? 1 : 0;
    } else if (!module.message.empty()) {
      notes.push_back(Clean(module.message));
    }
  }
  if (nameless > 0) {
    notes.push_back(
        absl::StrCat("no lines for ", Plural(nameless, "module", "modules"),
                     " (no debug information here; --debug-dir and --sysroot say where to look)"));
  }
  if (notes.empty()) return;
  lines.Add("");
  lines.Add("Notes");
  const size_t shown = notes.size() <= kMaxNotes + 1 ? notes.size() : kMaxNotes;
  for (size_t i = 0; i < shown; ++i) lines.Add(absl::StrCat("  - ", notes[i]));
  if (shown < notes.size()) {
    lines.Add(absl::StrCat("  - and ", notes.size() - shown, " more: see --format=json"));
  }
}

void RenderRest(const Report& report, Lines& lines) {
  const size_t rest = report.groups_in_all - report.groups.size();
  if (rest == 0) return;
  lines.Add("");
  lines.Add(
      absl::StrCat(Plural(rest, "more group", "more groups"), " not shown; --top=0 shows all"));
}

}  // namespace

void RenderText(const Report& report, const TextOptions& options, const OutputSink& sink) {
  Lines lines(sink);
  RenderHead(report, lines);
  RenderProcesses(report, options, lines);
  lines.Add("");
  if (report.groups.empty()) {
    lines.Add(report.processes.empty() ? "No process passes the filters."
                                       : "Nothing is live that passes the filters.");
  } else {
    lines.Add(absl::StrCat("Live memory by ", report.group_by, ": ",
                           Bytes(report.live_bytes_in_all), " in ",
                           Plural(report.groups_in_all, "group", "groups")));
    for (const ReportGroup& group : report.groups) RenderGroup(report, group, options, lines);
  }
  RenderRest(report, lines);
  RenderNotes(report, lines);
}

void RenderLeaks(const Report& report, const TextOptions& options, const OutputSink& sink) {
  Lines lines(sink);
  RenderHead(report, lines);
  const auto growing = [](const ReportGroup& group) { return group.growth_bytes > 0; };
  const auto first_kept = std::find_if_not(report.groups.begin(), report.groups.end(), growing);
  const auto render = [&](auto begin, auto end) {
    lines.Add("");
    lines.Add(absl::StrFormat("%5s %10s %10s %10s %12s %12s  %s", "", "LIVE", "BLOCKS", "GROWTH",
                              "PER REQUEST", "PER HOUR", "PROCESS"));
    for (auto group = begin; group != end; ++group) {
      const auto rate = [](const std::optional<double>& value) {
        return value ? FormatBytes(*value) : "-";
      };
      lines.Add(absl::StrFormat("#%-4d %10s %10s %10s %12s %12s  %s, %s", group->rank,
                                Bytes(group->live_bytes), FormatCount(group->live_blocks),
                                FormatBytes(static_cast<double>(group->growth_bytes)),
                                rate(group->bytes_per_request), rate(group->bytes_per_hour),
                                Owner(report, *group), DomainText(*group)));
      RenderFrames(report, *group, options, lines);
    }
  };
  lines.Add("");
  if (first_kept == report.groups.begin()) {
    lines.Add("No stack's memory grew after the warm-up (the first quarter of a process's life).");
  } else {
    lines.Add("Growing after the warm-up (the first quarter of a process's life)");
    render(report.groups.begin(), first_kept);
  }
  if (first_kept != report.groups.end()) {
    lines.Add("");
    lines.Add("Not growing, but never freed by processes that ended by themselves");
    render(first_kept, report.groups.end());
  }
  RenderRest(report, lines);
  RenderNotes(report, lines);
}

}  // namespace ollamatrace
