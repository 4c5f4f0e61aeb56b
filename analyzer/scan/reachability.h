// Which blocks something points to, directly or by way of others. Conservative: any aligned word
// that looks like an address of a block is taken for a pointer to it.
#ifndef OLLAMATRACE_ANALYZER_SCAN_REACHABILITY_H_
#define OLLAMATRACE_ANALYZER_SCAN_REACHABILITY_H_

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/types/span.h"

namespace ollamatrace {

// As valgrind's memcheck uses the words.
enum class Reach : uint8_t {
  kDefinitelyLost,  // nothing points to it
  kIndirectlyLost,  // only lost blocks do
  kPossiblyLost,    // only into its middle, or from blocks that are themselves possibly lost
  kReachable,
};

struct ScanBlock {
  uint64_t address = 0;
  uint64_t size = 0;  // 0 counts as 1
};

// Memory that is looked through whether anything points to it or not.
struct RootRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  // Only words that are a block's very address count. The C library's data holds addresses of free
  // chunks, which begin within the last bytes of the block before.
  bool exact_only = false;
};

// Calls `words` for what is readable of [begin, end), piece by piece, in words of 8 bytes; begin
// is a multiple of 8.
using WordVisitor = std::function<void(absl::Span<const uint64_t>)>;
using WordReader = std::function<void(uint64_t begin, uint64_t end, const WordVisitor& words)>;

// `blocks`: by address, disjoint. `registers`: words, likewise roots. The answer has one entry for
// each block. Blocks that point to each other in a circle have one that counts as definitely lost,
// the others are indirectly lost.
std::vector<Reach> FindReachable(absl::Span<const ScanBlock> blocks,
                                 absl::Span<const RootRange> roots,
                                 absl::Span<const uint64_t> registers, const WordReader& read);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SCAN_REACHABILITY_H_
