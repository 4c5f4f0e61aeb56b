#include <algorithm>
#include <cmath>
#include <ctime>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "analyzer/report/estimate_text.h"
#include "analyzer/report/gpu_text.h"
#include "analyzer/report/memory_text.h"
#include "analyzer/report/renderers.h"
#include "analyzer/report/timeline_text.h"
#include "analyzer/text/function_name.h"
#include "analyzer/text/paint.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr size_t kProseWidth = 110;  // longer lines are hard to read

// Of a frame's line: ten columns are for the mark and what stands between.
size_t FunctionWidth(const TextOptions& options) { return (options.width - 10) * 58 / 110; }
size_t PlaceWidth(const TextOptions& options) {
  return options.width - 10 - FunctionWidth(options);
}

// The other columns of the table of processes take 75; a wide terminal has room for arguments.
size_t ProcessWidth(const TextOptions& options) {
  if (options.width > 120) return options.width - 80;
  return std::clamp<size_t>(options.width - (options.width < 90 ? 64 : 75), 15, 40);
}

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
  Lines(const OutputSink& sink, const TextOptions& options) : sink_(sink), options_(options) {}
  const TextOptions& options() const { return options_; }
  std::string Painted(Ink ink, absl::string_view text) const {
    return Paint(options_.colour, ink, text);
  }
  void Add(absl::string_view line) {
    const size_t end = line.find_last_not_of(' ');
    sink_(absl::StrCat(line.substr(0, end == absl::string_view::npos ? 0 : end + 1), "\n"));
  }

 private:
  const OutputSink& sink_;
  const TextOptions& options_;
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
  constexpr size_t kEnough = 256;
  for (size_t i = 1; i < process.argv.size() && name.size() < kEnough; ++i) {
    absl::StrAppend(&name, " ", process.argv[i]);
  }
  return Clean(name);
}

// ---- The head and the table of processes ----

// Words in lines, the first of which begins with `head`; the first word, or all, in `ink`.
void RenderParagraph(absl::string_view head, absl::string_view text, Lines& lines,
                     Ink ink = Ink::kPlain, bool all = false) {
  const size_t width = std::min(kProseWidth, lines.options().width);
  std::string line(head);
  size_t columns = head.size();
  bool begun = false, first = true;
  const auto add = [&] { lines.Add(all ? lines.Painted(ink, line) : line); };
  for (const absl::string_view word : absl::StrSplit(text, ' ')) {
    if (begun && columns + 1 + word.size() > width) {
      add();
      line.assign(head.size(), ' ');
      columns = head.size();
      begun = false;
    }
    absl::StrAppend(&line, begun ? " " : "",
                    lines.Painted(first && !all ? ink : Ink::kPlain, word));
    columns += (begun ? 1 : 0) + word.size();
    begun = true;
    first = false;
  }
  add();
}

// "sampled every 512.0 KiB"; "" when nothing was.
std::string SamplingText(const Report& report) {
  std::optional<uint64_t> every;
  for (const ReportProcess& process : report.processes) {
    if (!process.sample_bytes) continue;
    if (every && *every != *process.sample_bytes) return "sampled";
    every = process.sample_bytes;
  }
  return every ? absl::StrCat("sampled every ", Bytes(*every)) : "";
}

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
  if (!report.headline.empty()) {
    const absl::string_view verdict = report.headline.substr(0, report.headline.find(':'));
    const Ink ink = InkOfVerdict(verdict) == Ink::kBad ? Ink::kBad : Ink::kStrong;
    RenderParagraph("", "=> " + Clean(report.headline), lines, ink, /*all=*/true);
  }
  if (const std::string sampling = SamplingText(report); !sampling.empty()) {
    lines.Add(absl::StrCat("Estimates: the heap was ", sampling, "; +- is one standard error"));
  }
  if (report.since || report.until) {
    std::string window = "Window:";
    if (report.since)
      absl::StrAppend(&window, " allocated from ", FormatSeconds(*report.since), " on");
    if (report.since && report.until) window += ",";
    if (report.until) absl::StrAppend(&window, " the state at ", FormatSeconds(*report.until));
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

// Which processes get a row of their own: those that hold the most.
std::vector<bool> ShownProcesses(const Report& report, const TextOptions& options) {
  const size_t count = report.processes.size();
  if (options.processes == 0 || count <= options.processes + 1)
    return std::vector<bool>(count, true);
  std::vector<size_t> order(count);
  for (size_t i = 0; i < count; ++i) order[i] = i;
  const auto held = [&](size_t i) {
    return report.processes[i].host.live_bytes + report.processes[i].memory.mapped;
  };
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return held(a) > held(b); });
  std::vector<bool> shown(count, false);
  for (size_t i = 0; i < options.processes; ++i) shown[order[i]] = true;
  return shown;
}

// "and 65 more, with 552.1 KiB live in all: 40 bash, 20 env, ...", as many lines as it takes.
void RenderOtherProcesses(const Report& report, const std::vector<bool>& shown, Lines& lines) {
  uint64_t bytes = 0;
  size_t count = 0;
  std::map<std::string, size_t> names;
  for (size_t i = 0; i < shown.size(); ++i) {
    if (shown[i]) continue;
    const ReportProcess& process = report.processes[i];
    bytes += process.host.live_bytes + process.memory.mapped;
    ++count;
    ++names[ShortStart(Clean(process.name), 40)];
  }
  if (count == 0) return;
  constexpr absl::string_view kIndent = "          ";
  std::string line = absl::StrCat(kIndent, "and ", FormatCount(count), " more, with ", Bytes(bytes),
                                  " live in all:");
  const char* separator = " ";
  for (const auto& [name, times] : names) {
    const std::string word = absl::StrCat(times, " ", name);
    if (line.size() + word.size() > std::min(kProseWidth, lines.options().width)) {
      lines.Add(absl::StrCat(line, *separator == ',' ? "," : ""));
      line = std::string(kIndent);
      separator = " ";
    }
    absl::StrAppend(&line, separator, word);
    separator = ", ";
  }
  lines.Add(line);
}

void RenderProcesses(const Report& report, const TextOptions& options, Lines& lines) {
  if (report.processes.empty()) return;
  const std::vector<bool> shown = ShownProcesses(report, options);
  const size_t width = ProcessWidth(options);
  std::vector<std::pair<size_t, size_t>> rows;
  AddTree(report, std::nullopt, 0, rows);
  // A narrow terminal goes without the number of blocks.
  const auto row = [&](absl::string_view pid, absl::string_view name, absl::string_view end,
                       absl::string_view live, absl::string_view blocks, absl::string_view peak,
                       absl::string_view mapped, absl::string_view rss) {
    return absl::StrFormat("%8s  %s %-8s %10s%s %10s %10s %10s", pid, Column(name, width), end,
                           live, options.width < 90 ? "" : absl::StrFormat(" %10s", blocks), peak,
                           mapped, rss);
  };
  lines.Add("");
  lines.Add(lines.Painted(Ink::kFaint, row("PID", "PROCESS", "END", "LIVE HEAP", "BLOCKS",
                                           "PEAK HEAP", "MAPPED", "RSS")));
  for (const auto& [index, depth] : rows) {
    if (!shown[index]) continue;
    const ReportProcess& process = report.processes[index];
    const std::string name =
        ShortStart(absl::StrCat(std::string(2 * depth, ' '), ProcessName(process)), width);
    std::string rss = "-";
    const ReportMemory& memory = process.memory;
    if (memory.rss_anon || memory.rss_file || memory.rss_shmem) {
      rss = Bytes(memory.rss_anon.value_or(0) + memory.rss_file.value_or(0) +
                  memory.rss_shmem.value_or(0));
    }
    lines.Add(row(absl::StrCat(process.pid), name, process.end, Bytes(process.host.live_bytes),
                  FormatCount(process.host.live_blocks), Bytes(process.host.peak_bytes),
                  Bytes(process.memory.mapped), rss));
    if (const std::optional<ReportErrors>& errors = process.host.errors; errors) {
      lines.Add(row("", "", "", "+- " + FormatBytes(errors->live_bytes),
                    "+- " + FormatCount(static_cast<uint64_t>(std::llround(errors->live_blocks))),
                    "", "", ""));
    }
  }
  RenderOtherProcesses(report, shown, lines);
  // A trace cannot tell the two, and every program in Go that returns from main is such a one.
  if (std::any_of(report.processes.begin(), report.processes.end(),
                  [](const ReportProcess& process) { return process.end == "killed"; })) {
    RenderParagraph("          killed: ",
                    "ended without exit handlers: by a signal, or by _exit as Go programs do",
                    lines);
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

// A row of a stack as it is shown: one frame, or several that are only counted.
struct FrameRow {
  size_t first = 0;
  size_t count = 1;
  bool plumbing = false;  // of a row of several
};

std::vector<FrameRow> FrameRows(const Report& report, const ReportGroup& group, uint64_t limit) {
  const std::vector<uint32_t>& frames = group.frames;
  const auto plumbing = [&](size_t i) { return report.frames[frames[i]].plumbing; };
  std::vector<FrameRow> rows;
  for (size_t i = 0; i < frames.size();) {
    size_t end = i + 1;
    // The innermost frame stays: it says by which function the memory was asked for.
    if (limit != 0 && i > 0 && plumbing(i)) {
      while (end < frames.size() && plumbing(end)) ++end;
    }
    rows.push_back({i, end - i, end - i > 1});
    i = end;
  }
  if (limit == 0 || rows.size() <= limit + 1) return rows;
  // Of the callers, the nearest and the outermost.
  const size_t outer = limit >= 4 ? 2 : 0;
  const size_t inner = limit - outer;
  const size_t after = rows.size() - outer;
  const size_t next = after < rows.size() ? rows[after].first : frames.size();
  const FrameRow rest = {rows[inner].first, next - rows[inner].first, false};
  rows.erase(rows.begin() + static_cast<std::ptrdiff_t>(inner),
             rows.begin() + static_cast<std::ptrdiff_t>(after));
  rows.insert(rows.begin() + static_cast<std::ptrdiff_t>(inner), rest);
  return rows;
}

void RenderFrames(const Report& report, const ReportGroup& group, const TextOptions& options,
                  Lines& lines) {
  for (const FrameRow& row : FrameRows(report, group, options.frames)) {
    const ReportFrame& frame = report.frames[group.frames[row.first]];
    if (row.count > 1) {
      lines.Add(lines.Painted(
          Ink::kFaint,
          absl::StrCat("        ... ", row.count,
                       row.plumbing ? " frames of allocator and runtime" : " frames")));
      continue;
    }
    if (report.group_by == "module") {
      lines.Add(
          absl::StrCat("        ", frame.module.empty() ? "in no module" : Clean(frame.module)));
      continue;
    }
    const size_t width = FunctionWidth(options);
    const std::string name = FrameName(frame, width - (frame.inlined ? 10 : 0));
    const std::string place =
        frame.function.empty() && frame.file.empty() ? "" : Place(frame, PlaceWidth(options));
    const bool blamed = row.first == group.blamed_frame && group.frames.size() > 1;
    const Ink ink = blamed ? Ink::kStrong : frame.plumbing ? Ink::kFaint : Ink::kPlain;
    lines.Add(absl::StrCat(
        "      ", blamed ? "> " : "  ",
        lines.Painted(ink, Column(absl::StrCat(name, frame.inlined ? " (inlined)" : ""), width)),
        " ", lines.Painted(blamed ? ink : Ink::kFaint, place)));
  }
}

std::string Owner(const Report& report, const ReportGroup& group) {
  const ReportProcess& first = report.processes[group.processes.front()];
  return group.processes.size() == 1
             ? absl::StrCat(Clean(first.name), " [", first.pid, "]")
             : absl::StrCat(Clean(first.name), " in ", group.processes.size(), " processes");
}

const char* Ending(const Report& report, const ReportGroup& group) {
  if (group.verdict == "live-at-kill") return ", live at the kill";
  const bool exec = std::all_of(group.processes.begin(), group.processes.end(),
                                [&](size_t i) { return report.processes[i].end == "exec"; });
  return exec ? ", until its exec" : "";
}

std::string DomainText(const ReportGroup& group) {
  if (group.device) return absl::StrCat(group.domain, " of GPU ", *group.device);
  if (group.mapping == "file") return "file mapping";
  if (group.mapping == "reserved") return "address space reserved";
  return group.domain;
}

std::string Rates(const ReportGroup& group) {
  std::vector<std::string> rates;
  const auto add = [&](const std::optional<ReportRate>& rate, const char* per) {
    if (rate && std::abs(rate->value) >= 0.5) rates.push_back(FormatBytes(rate->value) + per);
  };
  add(group.bytes_per_request, " per request");
  add(group.bytes_per_token, " per token");
  add(group.bytes_per_hour, " per hour");
  return absl::StrJoin(rates, ", ");
}

// The verdict, what led to it, and what to do about it.
void RenderVerdict(const ReportGroup& group, Lines& lines) {
  // The first sentences are in the lines above.
  constexpr size_t kKnown = 2;
  const bool estimated = group.errors.has_value();
  std::vector<std::string> why;
  for (size_t i = kKnown + (estimated ? 1 : 0); i < group.evidence.size(); ++i) {
    why.push_back(Clean(group.evidence[i]));
  }
  const bool lost = group.lost && group.lost->definitely_blocks > 0;
  std::string text = absl::StrFormat("%s%s (confidence %.2f)", group.verdict,
                                     lost ? ", definitely lost" : "", group.confidence);
  if (!why.empty()) absl::StrAppend(&text, ": ", absl::StrJoin(why, "; "));
  RenderParagraph("      ", text, lines, InkOfVerdict(group.verdict));
  if (!group.advice.empty()) RenderParagraph("      advice: ", Clean(group.advice), lines);
}

void RenderEstimate(const ReportGroup& group, Lines& lines) {
  if (!group.errors) return;
  lines.Add(absl::StrCat("      about ",
                         EstimateText(group.live_bytes, group.live_blocks, *group.errors)));
}

void RenderGroup(const Report& report, const ReportGroup& group, const TextOptions& options,
                 Lines& lines) {
  lines.Add("");
  const std::string share =
      CountsAsMemory(group) ? absl::StrFormat("%5.1f %%", group.share * 100) : "     - ";
  lines.Add(lines.Painted(
      Ink::kStrong,
      absl::StrFormat("#%-4d %10s in %s  %s  %s, %s%s%s", group.rank, Bytes(group.live_bytes),
                      Column(Plural(group.live_blocks, "block", "blocks"), 14), share,
                      DomainText(group), Owner(report, group), Ending(report, group),
                      group.thread.empty() ? "" : ", " + Clean(group.thread))));
  RenderEstimate(group, lines);
  std::string history =
      absl::StrCat("      seen ", FormatSeconds(group.first_seen), " to ",
                   FormatSeconds(group.last_seen), "; ", FormatCount(group.allocations),
                   " allocated, ", group.frees == 0 ? "none" : FormatCount(group.frees), " freed");
  if (const std::string rates = Rates(group); !rates.empty()) {
    absl::StrAppend(&history, "; ", group.growth_bytes < 0 ? "" : "+", rates);
  }
  lines.Add(history);
  RenderVerdict(group, lines);
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
  size_t nameless = 0, missing = 0;
  for (const ReportModule& module : coverage.modules) {
    if (module.state == "ok") ++nameless;
    if (module.state == "no-file" || module.state == "build-id-differs") ++missing;
    if (module.state != "not-a-file" && !module.message.empty()) {
      notes.push_back(Clean(module.message));
    }
  }
  if (nameless > 0) {
    notes.push_back(absl::StrCat("no lines for ", Plural(nameless, "module", "modules"),
                                 " (no debug information here; --debug-dir, --sysroot and "
                                 "DEBUGINFOD_URLS say where to look)"));
  }
  if (missing > 0) {
    notes.push_back(absl::StrCat("names are missing for ", Plural(missing, "module", "modules"),
                                 ": `ollama-leakview symbolize`, run where they are, stores them "
                                 "beside the trace; --sysroot says where to look here"));
  }
  if (notes.empty()) return;
  lines.Add("");
  lines.Add("Notes");
  const uint64_t most = lines.options().notes;
  const size_t shown = most == 0 || notes.size() <= most + 1 ? notes.size() : most;
  for (size_t i = 0; i < shown; ++i) lines.Add(absl::StrCat("  - ", notes[i]));
  if (shown < notes.size()) {
    lines.Add(absl::StrCat("  - and ", notes.size() - shown, " more: --verbose shows all"));
  }
}

void RenderRest(const Report& report, Lines& lines) {
  const size_t rest = report.groups_in_all - report.groups.size();
  if (rest == 0) return;
  lines.Add("");
  lines.Add(
      absl::StrCat(Plural(rest, "more group", "more groups"), " not shown; --top=0 shows all"));
}

// Of the processes that hold the most, and at least a twentieth of what all do.
void RenderAccounting(const Report& report, Lines& lines) {
  constexpr size_t kShown = 4;
  std::vector<const ReportProcess*> order;
  uint64_t total = 0;
  for (const ReportProcess& process : report.processes) {
    if (!process.memory.accounting) continue;
    order.push_back(&process);
    total += process.memory.accounting->total;
  }
  std::stable_sort(order.begin(), order.end(), [](const ReportProcess* a, const ReportProcess* b) {
    return a->memory.accounting->total > b->memory.accounting->total;
  });
  for (size_t i = 0; i < order.size() && i < kShown; ++i) {
    if (order[i]->memory.accounting->total < total / 20) break;
    lines.Add("");
    for (const std::string& line : AccountingText(*order[i])) lines.Add(line);
  }
}

void RenderGpu(const Report& report, Lines& lines) {
  for (const ReportProcess& process : report.processes) {
    const std::vector<std::string> text = GpuText(process);
    if (!text.empty()) lines.Add("");
    for (const std::string& line : text) lines.Add(line);
  }
}

void RenderCycles(const Report& report, Lines& lines) {
  const std::vector<std::string> text = CyclesText(report);
  if (!text.empty()) lines.Add("");
  for (const std::string& line : text) lines.Add(line);
}

}  // namespace

void RenderText(const Report& report, const TextOptions& options, const OutputSink& sink) {
  Lines lines(sink, options);
  RenderHead(report, lines);
  RenderProcesses(report, options, lines);
  RenderCycles(report, lines);
  RenderAccounting(report, lines);
  RenderGpu(report, lines);
  lines.Add("");
  if (report.groups.empty()) {
    lines.Add(absl::StrCat(report.processes.empty() ? "No process" : "Nothing is live",
                           !report.filtered           ? "."
                           : report.processes.empty() ? " passes the filters."
                                                      : " that passes the filters."));
  } else {
    lines.Add(absl::StrCat(
        "Live memory by ", report.group_by, ": ", report.live_bytes_error ? "about " : "",
        Bytes(report.live_bytes_in_all),
        report.live_bytes_error ? absl::StrCat(" +- ", FormatBytes(*report.live_bytes_error)) : "",
        " in ", Plural(report.groups_in_all, "group", "groups")));
    for (const ReportGroup& group : report.groups) RenderGroup(report, group, options, lines);
  }
  RenderRest(report, lines);
  RenderNotes(report, lines);
}

void RenderTimeline(const Report& report, const TextOptions& options, const OutputSink& sink) {
  Lines lines(sink, options);
  RenderHead(report, lines);
  RenderCycles(report, lines);
  lines.Add("");
  const auto label = [&](const ReportGroup& group) {
    std::string text = group.frames.empty()
                           ? "unknown stack"
                           : FrameName(report.frames[group.frames[group.blamed_frame]], 40);
    return absl::StrCat(text, ", ", Owner(report, group));
  };
  for (const std::string& line : TimelineText(report, label)) lines.Add(line);
  RenderRest(report, lines);
  RenderNotes(report, lines);
}

void RenderFragmentation(const Report& report, const TextOptions& options, const OutputSink& sink) {
  Lines lines(sink, options);
  RenderHead(report, lines);
  for (const ReportFragmentation& one : report.fragmentation) {
    lines.Add("");
    for (const std::string& line : HeapsText(report.processes[one.process], one)) lines.Add(line);
    size_t rank = 0;
    for (const ReportPin& pin : one.pins) {
      if (pin.pinned + pin.released == 0) continue;
      lines.Add("");
      lines.Add(absl::StrFormat("#%-4d %s", ++rank, PinText(pin)));
      ReportGroup group;
      group.frames = pin.frames;
      group.blamed_frame = pin.blamed_frame;
      RenderFrames(report, group, options, lines);
    }
    if (rank > 1) {
      lines.Add("");
      lines.Add(absl::StrCat("All of these freed, malloc_trim(0) returns ",
                             Bytes(one.trimmable + one.released_by_all)));
    }
  }
  if (report.fragmentation.empty()) {
    lines.Add("");
    lines.Add(
        "No process whose pages the library has looked at: too short, or no access to /proc.");
  }
  RenderNotes(report, lines);
}

void RenderLeaks(const Report& report, const TextOptions& options, const OutputSink& sink) {
  Lines lines(sink, options);
  RenderHead(report, lines);
  const auto render = [&](absl::string_view title, const auto& belongs) {
    bool any = false;
    for (const ReportGroup& group : report.groups) {
      if (!belongs(group)) continue;
      if (!any) {
        lines.Add("");
        lines.Add(title);
        lines.Add("");
        lines.Add(absl::StrFormat("%5s %10s %10s %10s %12s %12s  %s", "", "LIVE", "BLOCKS",
                                  "GROWTH", "PER REQUEST", "PER HOUR", "PROCESS"));
      }
      any = true;
      const auto rate = [](const std::optional<ReportRate>& value) {
        return value ? FormatBytes(value->value) : "-";
      };
      lines.Add(absl::StrFormat("#%-4d %10s %10s %10s %12s %12s  %s, %s", group.rank,
                                Bytes(group.live_bytes), FormatCount(group.live_blocks),
                                FormatBytes(static_cast<double>(group.growth_bytes)),
                                rate(group.bytes_per_request), rate(group.bytes_per_hour),
                                Owner(report, group), DomainText(group)));
      RenderEstimate(group, lines);
      RenderVerdict(group, lines);
      RenderFrames(report, group, options, lines);
    }
    return any;
  };
  const auto leaks = [](const ReportGroup& group) { return group.leaks; };
  const auto lost = [&](const ReportGroup& group) {
    return !leaks(group) && group.lost && group.lost->definitely_blocks > 0;
  };
  const auto grows = [&](const ReportGroup& group) {
    return !leaks(group) && !lost(group) && group.growing;
  };
  const auto kept = [&](const ReportGroup& group) {
    return !leaks(group) && !lost(group) && !group.growing;
  };
  const bool leaking = render("Leaks", leaks);
  const bool losing = render("Lost: nothing points to some of their blocks any more", lost);
  if (!leaking && !losing) {
    lines.Add("");
    lines.Add("No leak found.");
  }
  render("Grew after the warm-up, for another reason or for too short a time", grows);
  render("Not growing, but never freed by processes that ended by themselves", kept);
  RenderRest(report, lines);
  RenderNotes(report, lines);
}

void RenderDiff(const ReportDiff& diff, uint64_t top, const TextOptions& options,
                const OutputSink& sink) {
  Lines lines(sink, options);
  const auto session = [&](absl::string_view which, const DiffSession& one) {
    lines.Add(absl::StrCat(
        which, Clean(one.title), ": ", Bytes(one.live_bytes), " live at ",
        FormatSeconds(one.duration),
        one.requests == 0 ? "" : absl::StrCat(", ", Plural(one.requests, "request", "requests"))));
  };
  session("A  ", diff.before);
  session("B  ", diff.after);
  const double delta =
      static_cast<double>(diff.after.live_bytes) - static_cast<double>(diff.before.live_bytes);
  lines.Add(absl::StrCat("=> ", delta < 0 ? "" : "+", FormatBytes(delta), " in all"));
  Report names;
  names.frames = diff.frames;
  size_t shown = 0, same = 0;
  for (const DiffEntry& entry : diff.entries) {
    if (entry.delta_bytes == 0) {
      ++same;
      continue;
    }
    if (top != 0 && shown == top) continue;
    ++shown;
    std::string what = entry.IsNew()    ? "new"
                       : entry.IsGone() ? "gone"
                                        : absl::StrCat(Bytes(entry.before.live_bytes), " -> ",
                                                       Bytes(entry.after.live_bytes));
    if (entry.match == DiffEntry::Match::kFunction) what += ", matched by function";
    lines.Add("");
    lines.Add(absl::StrFormat("#%-4d %s%s  (%s)  %s, %s", shown, entry.delta_bytes < 0 ? "" : "+",
                              FormatBytes(static_cast<double>(entry.delta_bytes)), what,
                              entry.domain, Clean(entry.program)));
    const auto side = [&](absl::string_view which, const DiffSide& one) {
      if (one.verdict.empty()) return;
      lines.Add(absl::StrCat(
          "      ", which, ": ", Plural(one.live_blocks, "block", "blocks"), ", ", one.verdict,
          one.bytes_per_request
              ? absl::StrCat(", ", FormatBytes(*one.bytes_per_request), " per request")
              : ""));
    };
    side("A", entry.before);
    side("B", entry.after);
    ReportGroup group;
    group.frames = entry.frames;
    group.blamed_frame = entry.blamed_frame;
    RenderFrames(names, group, options, lines);
  }
  const size_t changed = diff.entries.size() - same;
  lines.Add("");
  if (changed > shown) {
    lines.Add(absl::StrCat(Plural(changed - shown, "more group", "more groups"),
                           " that changed not shown; --top=0 shows all"));
  }
  lines.Add(absl::StrCat(Plural(same, "group", "groups"), " without a change"));
}

}  // namespace ollamatrace
