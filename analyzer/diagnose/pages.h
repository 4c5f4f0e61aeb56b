// Which of a process's anonymous pages are in memory or in swap, as sums over address ranges.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_PAGES_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_PAGES_H_

#include <cstdint>
#include <vector>

#include "formats/memory_map.h"

namespace ollamatrace {

// Anonymous memory of the process's own: its pages are accounted for one by one.
inline bool IsAnonymous(const MemoryArea& area) {
  return !area.shared && area.kind != AreaKind::kFile && area.kind != AreaKind::kOther;
}

// "Held" is in memory or in swap: what RssAnon + VmSwap count. Thread-compatible.
class HeldPages {
 public:
  explicit HeldPages(const MemoryMap& map);

  // Bytes of [begin, end) that are held. Sums over ranges that adjoin add up exactly. Where the map
  // knows how many pages of a mapping are held but not which, an even share.
  uint64_t Bytes(uint64_t begin, uint64_t end) const { return Below(end) - Below(begin); }
  // Whether all that is held in [begin, end) is known page by page.
  bool Exact(uint64_t begin, uint64_t end) const;
  uint64_t total() const { return total_; }

  // Held pages of which the map knows that they are, by address.
  const std::vector<PageRun>& runs() const { return runs_; }

 private:
  uint64_t Below(uint64_t address) const;

  struct Stretch {
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t held = 0;   // of it
    uint64_t below = 0;  // held by the stretches before
  };
  std::vector<Stretch> stretches_;  // by address
  std::vector<PageRun> runs_;
  uint64_t total_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_PAGES_H_
