// What a MemoryMap record tells: the process's mappings, what of each is in memory, and whose some
// of them are. This is the decoded form; memory_map_builder.h makes the encoded one, FORMAT.md has
// the layout.
#ifndef OLLAMATRACE_FORMATS_MEMORY_MAP_H_
#define OLLAMATRACE_FORMATS_MEMORY_MAP_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "formats/memory_map_builder.h"

namespace ollamatrace {

// Pages of one mapping that are in memory or in swap, adjacent ones together.
struct PageRun {
  uint64_t begin = 0;  // addresses
  uint64_t end = 0;
};

// One mapping, as /proc/PID/smaps has it. Sizes in bytes.
struct MemoryArea {
  uint64_t begin = 0;
  uint64_t end = 0;
  AreaKind kind = AreaKind::kAnonymous;
  uint8_t protection = 0;  // PROT_* bits
  bool shared = false;     // MAP_SHARED
  std::string name;        // path, or the name in brackets; maybe empty
  uint64_t rss = 0;
  uint64_t anonymous = 0;  // of rss: pages of the process's own, not a file's
  uint64_t swap = 0;
  uint64_t shared_bytes = 0;  // of rss: pages that other processes have mapped, too
  bool runs_known = false;
  std::vector<PageRun> runs;  // ascending; of anonymous areas only
};

// A heap of one of glibc's arenas (not the main one): 64 MiB of address space, aligned to as much.
struct ArenaHeap {
  uint64_t address = 0;
  uint64_t arena = 0;     // what tells arenas apart
  uint64_t previous = 0;  // the heap that the arena had before this one; 0: none
};

struct MemoryMap {
  uint64_t time_ns = 0;
  std::vector<MemoryArea> areas;  // ascending, disjoint
  // Of mappings that were left out, to keep the record within its bound.
  uint64_t rest_rss = 0;
  uint64_t rest_anonymous = 0;
  uint64_t rest_swap = 0;
  std::vector<uint64_t> threads;      // an address within each thread's control block
  uint64_t first_thread = 0;          // likewise; 0: not known
  std::vector<uint64_t> own_threads;  // the tracer's, likewise
  std::vector<PageRun> own;           // the tracer's anonymous mappings, ascending
  std::vector<ArenaHeap> heaps;
};

inline constexpr size_t kMaxDecodedMapBytes = 64u << 20;  // a live one may be longer than a record

// DataLoss: not what the layout says; nothing is believed then. Memory is bounded by the size of
// `body`.
absl::StatusOr<MemoryMap> DecodeMemoryMap(uint64_t time_ns, uint64_t page_bytes,
                                          absl::string_view body);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_MEMORY_MAP_H_
