// Where the memory of a process was at the moment of its last memory map: plain data.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_MEMORY_LAYOUT_H_
#define OLLAMATRACE_ANALYZER_REPLAY_MEMORY_LAYOUT_H_

#include <cstdint>
#include <string>
#include <vector>

#include "formats/memory_map.h"

namespace ollamatrace {

// Of `keys`: a block or a piece from before the window, whose stack nobody asked for.
inline constexpr uint32_t kNoKey = ~uint32_t{0};

struct LaidBlock {
  uint64_t address = 0;
  uint64_t size = 0;  // as asked for
  uint32_t key = kNoKey;
};

struct LaidMapping {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint32_t key = kNoKey;
};

struct LaidModule {
  uint64_t begin = 0;
  uint64_t end = 0;
  std::string path;
};

// Blocks that lived at the map's time but were folded into counters later are not among `blocks`.
struct MemoryLayout {
  MemoryMap map;
  std::vector<LaidBlock> blocks;      // of the heap; by address, no address twice
  std::vector<LaidMapping> mappings;  // as traced, files' left out; in the order of their times
  std::vector<LaidModule> modules;    // by address
  uint64_t page_bytes = 4096;
  bool glibc_malloc = false;  // the allocator answered mallinfo2
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_MEMORY_LAYOUT_H_
