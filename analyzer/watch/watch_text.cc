#include "analyzer/watch/watch_text.h"

#include <algorithm>
#include <optional>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

std::string Bytes(double bytes) { return FormatBytes(bytes); }
std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }
std::string Bytes(const std::optional<uint64_t>& bytes) { return bytes ? Bytes(*bytes) : "?"; }

std::string BlockBytes(const WatchedProcess& process, uint64_t bytes) {
  return process.followed ? Bytes(bytes) : "?";
}

std::string Rate(const std::optional<LevelHistory::Slope>& slope) {
  return slope ? absl::StrCat("+", Bytes(slope->by_hour), "/h") : "-";
}

std::string Clean(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

}  // namespace

std::string WatchPage(const WatchSnapshot& snapshot, const std::vector<Breach>& breaches,
                      size_t rows, size_t columns) {
  std::vector<std::string> lines;
  lines.push_back(absl::StrCat(
      snapshot.processes.size(), snapshot.processes.size() == 1 ? " process, " : " processes, ",
      Bytes(snapshot.live_bytes), " live, RssAnon and swap ", Bytes(snapshot.rss_bytes), ", ",
      Rate(snapshot.growth_by_hour), ", ", FormatCount(snapshot.requests), " requests",
      snapshot.phase.empty() ? "" : absl::StrCat(", phase ", snapshot.phase), ", watched for ",
      FormatSeconds(snapshot.seconds)));
  for (const Breach& breach : breaches) lines.push_back("BROKEN " + breach.message);
  for (const std::string& error : snapshot.errors) lines.push_back("! " + error);
  for (const WatchedProcess& process : snapshot.processes) {
    lines.emplace_back();
    lines.push_back(absl::StrFormat(
        "%s [%d]  heap %s  mapped %s  GPU %s  RssAnon %s  swap %s  files %s  %s%s", process.name,
        process.pid, BlockBytes(process, process.heap_bytes), Bytes(process.mapped_bytes),
        BlockBytes(process, process.gpu_bytes), Bytes(process.rss_anon), Bytes(process.swap),
        process.open_files ? absl::StrCat(*process.open_files) : "?", Rate(process.growth_by_hour),
        process.followed ? "" : "  (too many live blocks: no figures by stack)"));
    for (const WatchedGroup& group : process.groups) {
      lines.push_back(absl::StrFormat(
          "  %10s %s%-10s %-12s %8d  %s", Bytes(group.live_bytes),
          group.growth_bytes < 0 ? "" : "+", Bytes(static_cast<double>(group.growth_bytes)),
          group.growth_by_hour ? absl::StrCat("+", Bytes(*group.growth_by_hour), "/h") : "",
          group.live_blocks, group.name.Text()));
    }
  }
  if (lines.size() > rows) lines.resize(rows);
  std::string page;
  for (const std::string& line : lines) {
    absl::StrAppend(&page, Clean(line).substr(0, columns), "\n");
  }
  return page;
}

std::string WatchLines(const WatchSnapshot& snapshot, const std::string& time) {
  std::string text;
  for (const WatchedProcess& process : snapshot.processes) {
    absl::StrAppend(
        &text, time, " ",
        Clean(absl::StrCat(
            process.name, "[", process.pid, "] heap ", BlockBytes(process, process.heap_bytes),
            " mapped ", Bytes(process.mapped_bytes), " gpu ",
            BlockBytes(process, process.gpu_bytes), " rss_anon ", Bytes(process.rss_anon), " swap ",
            Bytes(process.swap), " growth ", Rate(process.growth_by_hour),
            process.groups.empty()
                ? ""
                : absl::StrCat("; top: ", process.groups[0].name.Text(), " ",
                               Bytes(process.groups[0].live_bytes), " (+",
                               Bytes(std::max<double>(
                                   0, static_cast<double>(process.groups[0].growth_bytes))),
                               ")"))),
        "\n");
  }
  if (snapshot.processes.empty()) {
    absl::StrAppend(&text, time, " no traced process is alive (", snapshot.ended_processes,
                    " have ended)\n");
  }
  for (const std::string& error : snapshot.errors) {
    absl::StrAppend(&text, time, " ! ", Clean(error), "\n");
  }
  return text;
}

}  // namespace ollamatrace
