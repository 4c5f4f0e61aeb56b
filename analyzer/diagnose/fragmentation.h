// Memory that the heap keeps though nobody uses it: how much, what malloc_trim would give back, and
// which survivors keep the rest from going.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_FRAGMENTATION_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_FRAGMENTATION_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/replay/process_history.h"

namespace ollamatrace {

// A page with less than this share in use is pinned by the blocks on it.
inline constexpr double kPinnedBelow = 0.5;

// A piece of a heap's address range, for a map of it. Bytes.
struct HeapCell {
  uint32_t held = 0;
  uint32_t used = 0;      // of `held`: by live blocks and their headers
  uint32_t key = kNoKey;  // whose blocks pin the most of it, where they pin any
};

// One stretch of an allocator's memory: the main arena, a heap of another arena, or a mapping of an
// allocator that is not glibc's. Bytes; "held" is in memory or in swap.
struct HeapFragmentation {
  std::string name;
  uint64_t arena = 0;  // heaps of one arena have the same
  uint64_t size = 0;   // of the address range
  uint64_t held = 0;
  uint64_t live_bytes = 0;  // as asked for
  uint64_t live_blocks = 0;
  uint64_t free_held = 0;         // held and in no live block
  uint64_t largest_free_run = 0;  // addresses without a live block
  uint64_t free_at_end = 0;       // the run above the last live block
  uint64_t trimmable = 0;         // what malloc_trim(0) would return; 0 for unknown allocators
  uint64_t pinned = 0;            // unused bytes of pages that hold a little
  // Held pages by how much of them is in use: none, up to a tenth, two tenths, ...
  std::array<uint64_t, 11> pages = {};
  // The range from the page of its begin on, cut in at most kMostCells cells of equal size; empty
  // where it is not known which pages are held.
  uint64_t cell_bytes = 0;
  std::vector<HeapCell> cells;
};

inline constexpr uint64_t kMostCells = 1024;

// The survivors of one stack as the reason that memory is kept.
struct Pin {
  uint32_t key = kNoKey;  // of ProcessHistory::layout_keys
  uint64_t blocks = 0;    // of theirs, those that lie on pinned pages
  uint64_t bytes = 0;
  uint64_t pages = 0;
  uint64_t pinned = 0;    // their share of HeapFragmentation::pinned
  uint64_t released = 0;  // what malloc_trim(0) would return in addition, were they all freed
};

struct Fragmentation {
  uint64_t time_ns = 0;
  std::vector<HeapFragmentation> heaps;  // by held bytes
  uint64_t held = 0;
  uint64_t live_bytes = 0;
  uint64_t free_held = 0;
  uint64_t trimmable = 0;
  uint64_t pinned = 0;
  std::vector<Pin> pins;         // by what would be released, then by what they pin
  uint64_t released_by_all = 0;  // were the blocks of all these pins freed
  bool exact = true;             // false: of some heap it is not known which pages are held
};

// `history.layout` is there. The model is glibc's (malloc.c: mtrim, systrim): free chunks give
// their whole pages back, the main arena the end of the break, other arenas not the end of theirs.
// Small blocks that threads keep for themselves (tcache) count as free, which they are not for
// malloc_trim.
Fragmentation FindFragmentation(const ProcessHistory& history, size_t max_pins = 12);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_FRAGMENTATION_H_
