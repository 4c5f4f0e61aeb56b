// The parts of a report that say where memory is: what it is made of, and what keeps it.
#ifndef OLLAMATRACE_ANALYZER_REPORT_REPORT_MEMORY_H_
#define OLLAMATRACE_ANALYZER_REPORT_REPORT_MEMORY_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ollamatrace {

struct ReportAccountPart {
  std::string name;
  uint64_t bytes = 0;
};

struct ReportAccountRow {
  std::string id;
  std::string name;
  uint64_t bytes = 0;
  std::string how;                       // "measured", "computed", "estimated"
  std::vector<ReportAccountPart> parts;  // of `bytes`, the greatest ones
};

struct ReportAccountFile {
  std::string path;
  uint64_t rss = 0;
  uint64_t shared = 0;  // of rss: with other processes
  bool shmem = false;
};

// Bytes in memory or in swap at one moment. `total`, the sum of the rows, is RssAnon + VmSwap.
struct ReportAccounting {
  double at = 0;
  uint64_t total = 0;
  std::vector<ReportAccountRow> rows;
  uint64_t retained = 0;
  uint64_t mapped = 0;
  uint64_t unknown = 0;
  std::vector<ReportAccountFile> files;  // greatest first
};

struct ReportHeapCell {
  uint64_t held = 0;
  uint64_t used = 0;          // of it
  std::optional<size_t> pin;  // index into ReportFragmentation::pins: who pins the most of it,
                              // where it is one of them
};

struct ReportHeap {
  std::string name;
  uint64_t size = 0;
  uint64_t held = 0;  // in memory or in swap
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t free_held = 0;
  uint64_t largest_free_run = 0;
  uint64_t free_at_end = 0;
  uint64_t trimmable = 0;
  uint64_t pinned = 0;
  std::array<uint64_t, 11> pages = {};  // held pages: free ones, up to a tenth in use, ...
  uint64_t cell_bytes = 0;
  std::vector<ReportHeapCell> cells;  // by address; empty where it is not known what is held
};

struct ReportPin {
  std::vector<uint32_t> frames;  // indices into Report::frames
  size_t blamed_frame = 0;
  uint64_t blocks = 0;
  uint64_t bytes = 0;
  uint64_t pages = 0;
  uint64_t pinned = 0;
  uint64_t released = 0;
};

// Of the host's heap. There is no GPU part before there is a trace of the GPU.
struct ReportFragmentation {
  size_t process = 0;
  double at = 0;
  bool exact = true;
  uint64_t held = 0;
  uint64_t live_bytes = 0;
  uint64_t free_held = 0;
  uint64_t trimmable = 0;  // what malloc_trim(0) would return
  uint64_t pinned = 0;     // unused parts of pages that are used by less than half
  std::vector<ReportHeap> heaps;
  std::vector<ReportPin> pins;
  uint64_t released_by_all = 0;  // in addition to trimmable, were the blocks of all pins freed
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_REPORT_MEMORY_H_
