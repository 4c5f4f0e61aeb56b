#include "analyzer/report/memory_text.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "analyzer/text/units.h"

namespace ollamatrace {
namespace {

constexpr size_t kShownParts = 5;
constexpr size_t kShownFiles = 5;
constexpr size_t kShownHeaps = 12;

std::string Bytes(uint64_t bytes) { return FormatBytes(static_cast<double>(bytes)); }

std::string Clean(absl::string_view text) {
  std::string clean(text);
  for (char& c : clean) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return clean;
}

double Share(uint64_t part, uint64_t whole) {
  return whole == 0 ? 0 : 100 * static_cast<double>(part) / static_cast<double>(whole);
}

std::string Owner(const ReportProcess& process) {
  return absl::StrCat(Clean(process.name), " [", process.pid, "]");
}

void AddFiles(const ReportAccounting& accounting, std::vector<std::string>& lines) {
  uint64_t files = 0, shmem = 0;
  for (const ReportAccountFile& file : accounting.files) (file.shmem ? shmem : files) += file.rss;
  if (files + shmem == 0) return;
  lines.push_back(
      absl::StrCat("  Besides, of files: ", Bytes(files),
                   shmem > 0 ? absl::StrCat("; of shared memory: ", Bytes(shmem)) : ""));
  for (size_t i = 0; i < std::min(kShownFiles, accounting.files.size()); ++i) {
    const ReportAccountFile& file = accounting.files[i];
    std::string line = absl::StrFormat("%17s          %s", FormatCount(file.rss), Clean(file.path));
    if (file.shared > 0) {
      absl::StrAppend(&line,
                      file.shared == file.rss ? ", all" : absl::StrCat(", ", Bytes(file.shared)),
                      " of it shared with other processes");
    }
    lines.push_back(line);
  }
}

}  // namespace

std::vector<std::string> AccountingText(const ReportProcess& process) {
  std::vector<std::string> lines;
  if (!process.memory.accounting) return lines;
  const ReportAccounting& accounting = *process.memory.accounting;
  lines.push_back(absl::StrCat("Memory of ", Owner(process), " at ", FormatSeconds(accounting.at),
                               ", in bytes: what RssAnon + VmSwap are"));
  for (const ReportAccountRow& row : accounting.rows) {
    lines.push_back(absl::StrFormat("%17s %6.1f %%  %s%s", FormatCount(row.bytes),
                                    Share(row.bytes, accounting.total), row.name,
                                    row.how == "measured" ? "" : absl::StrCat(" (", row.how, ")")));
    // A single part says nothing new, unless it is a stack.
    if (row.parts.size() < 2 && row.id != "mappings" && row.id != "named") continue;
    for (size_t i = 0; i < std::min(kShownParts, row.parts.size()); ++i) {
      lines.push_back(absl::StrFormat("%26s  %17s  %s", "", FormatCount(row.parts[i].bytes),
                                      Clean(row.parts[i].name)));
    }
  }
  lines.push_back(absl::StrFormat("%17s  in all", FormatCount(accounting.total)));
  AddFiles(accounting, lines);
  return lines;
}

std::vector<std::string> HeapsText(const ReportProcess& process,
                                   const ReportFragmentation& fragmentation) {
  std::vector<std::string> lines;
  lines.push_back(absl::StrCat(
      "Heap of ", Owner(process), " at ", FormatSeconds(fragmentation.at), ": ",
      Bytes(fragmentation.held), " held, ", Bytes(fragmentation.live_bytes), " live, ",
      Bytes(fragmentation.free_held), " free; malloc_trim(0) would return ",
      Bytes(fragmentation.trimmable), ", ", Bytes(fragmentation.pinned), " are pinned"));
  if (!fragmentation.exact) {
    lines.push_back("  Of some of it, only how many pages are held is known, not which: estimated");
  }
  lines.push_back(absl::StrFormat("  %10s %10s %10s %10s %10s  %s", "HELD", "LIVE", "FREE RUN",
                                  "TRIMMABLE", "PINNED",
                                  "held pages by use: none, to 10 %, ... to 100 %"));
  for (size_t i = 0; i < fragmentation.heaps.size(); ++i) {
    const ReportHeap& heap = fragmentation.heaps[i];
    if (i == kShownHeaps) {
      lines.push_back(absl::StrCat("  and ", fragmentation.heaps.size() - i, " smaller ones"));
      break;
    }
    std::string pages;
    for (const uint64_t count : heap.pages) absl::StrAppend(&pages, " ", count);
    lines.push_back(absl::StrFormat("  %10s %10s %10s %10s %10s %s  %s", Bytes(heap.held),
                                    Bytes(heap.live_bytes), Bytes(heap.largest_free_run),
                                    Bytes(heap.trimmable), Bytes(heap.pinned), pages, heap.name));
  }
  return lines;
}

std::string PinText(const ReportPin& pin) {
  return absl::StrCat(Bytes(pin.bytes), " in ", FormatCount(pin.blocks),
                      pin.blocks == 1 ? " block pins " : " blocks pin ", Bytes(pin.pinned), " in ",
                      FormatCount(pin.pages), pin.pages == 1 ? " page" : " pages",
                      "; freed, malloc_trim returns ", Bytes(pin.released), " more");
}

}  // namespace ollamatrace
