// What a scan of a living process found, in a file beside its trace: one JSON object a line, one
// line a scan.
#ifndef OLLAMATRACE_ANALYZER_LOAD_SCAN_FILE_H_
#define OLLAMATRACE_ANALYZER_LOAD_SCAN_FILE_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"

namespace ollamatrace {

struct BlockSum {
  uint64_t blocks = 0;
  uint64_t bytes = 0;  // as asked for

  void Add(uint64_t size) {
    ++blocks;
    bytes += size;
  }
  void Add(const BlockSum& other) {
    blocks += other.blocks;
    bytes += other.bytes;
  }
};

// As valgrind uses the words: nothing points to a block, only lost blocks do, or only something
// into its middle.
struct LostBlocks {
  BlockSum definitely;
  BlockSum indirectly;
  BlockSum possibly;
  std::vector<uint64_t> addresses;  // some of those that are definitely lost

  void Add(const LostBlocks& other) {
    definitely.Add(other.definitely);
    indirectly.Add(other.indirectly);
    possibly.Add(other.possibly);
  }
};

struct ScanResult {
  uint64_t time_ns = 0;  // CLOCK_MONOTONIC when the process stood still
  uint64_t pause_ns = 0;
  uint64_t duration_ns = 0;
  uint64_t scanned_bytes = 0;
  // Not all live blocks are known (a child of fork, or events were lost): what the allocator holds
  // besides was looked through, and more is reachable than there need be.
  bool blocks_unknown = false;
  BlockSum reachable;
  LostBlocks lost;                        // in all
  std::map<uint32_t, LostBlocks> stacks;  // by StackId: those with lost blocks
};

// The file beside this trace (or journal).
std::string ScanPath(const std::string& trace);

// Adds a line. Errors: one line, what could not be written and why.
absl::Status AppendScan(const std::string& path, const ScanResult& result);

// The last scan up to `until_ns`; nothing when there is none, or no file. Lines that are none, such
// as one that was cut, are skipped.
std::optional<ScanResult> ReadLastScan(const std::string& path, uint64_t until_ns);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_LOAD_SCAN_FILE_H_
