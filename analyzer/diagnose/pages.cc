#include "analyzer/diagnose/pages.h"

#include <algorithm>

namespace ollamatrace {

HeldPages::HeldPages(const MemoryMap& map) {
  const auto add = [this](uint64_t begin, uint64_t end, uint64_t held) {
    stretches_.push_back({begin, end, held, total_});
    total_ += held;
  };
  for (const MemoryArea& area : map.areas) {
    if (!IsAnonymous(area)) continue;
    if (!area.runs_known) {
      const uint64_t held = std::min(area.end - area.begin, area.anonymous + area.swap);
      if (held > 0) add(area.begin, area.end, held);
      continue;
    }
    for (const PageRun& run : area.runs) {
      add(run.begin, run.end, run.end - run.begin);
      if (!runs_.empty() && runs_.back().end == run.begin) {
        runs_.back().end = run.end;
      } else {
        runs_.push_back(run);
      }
    }
  }
}

uint64_t HeldPages::Below(uint64_t address) const {
  // The first stretch that begins at or above the address.
  const auto next =
      std::lower_bound(stretches_.begin(), stretches_.end(), address,
                       [](const Stretch& stretch, uint64_t at) { return stretch.begin < at; });
  if (next == stretches_.begin()) return 0;
  const Stretch& last = *(next - 1);
  const uint64_t length = last.end - last.begin;
  const uint64_t within = std::min(address - last.begin, length);
  if (last.held == length) return last.below + within;
  return last.below +
         static_cast<uint64_t>(static_cast<double>(last.held) *
                               (static_cast<double>(within) / static_cast<double>(length)));
}

bool HeldPages::Exact(uint64_t begin, uint64_t end) const {
  auto stretch = std::lower_bound(stretches_.begin(), stretches_.end(), begin,
                                  [](const Stretch& one, uint64_t at) { return one.end <= at; });
  for (; stretch != stretches_.end() && stretch->begin < end; ++stretch) {
    if (stretch->held != stretch->end - stretch->begin) return false;
  }
  return true;
}

}  // namespace ollamatrace
