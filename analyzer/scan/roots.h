// What of a process's memory may hold a pointer that somebody can still follow.
#ifndef OLLAMATRACE_ANALYZER_SCAN_ROOTS_H_
#define OLLAMATRACE_ANALYZER_SCAN_ROOTS_H_

#include <cstdint>
#include <vector>

#include "absl/types/span.h"
#include "analyzer/replay/memory_layout.h"
#include "analyzer/scan/reachability.h"

namespace ollamatrace {

struct Roots {
  std::vector<RootRange> ranges;
  std::vector<uint64_t> words;  // addresses that count as pointed to
};

// All memory but: what the allocator holds (its live blocks are not roots), the library's own,
// stacks below their stack pointer and those of threads that ended, files' pages as the file has
// them, and what cannot be written to by anybody. `unknown_blocks`: the layout does not have all
// live blocks; what the allocator holds besides those it has is looked through, too.
Roots FindRoots(const MemoryLayout& layout, absl::Span<const uint64_t> stack_pointers,
                bool unknown_blocks);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SCAN_ROOTS_H_
