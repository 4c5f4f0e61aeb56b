// Whose a process's anonymous memory is, range by range.
#ifndef OLLAMATRACE_ANALYZER_DIAGNOSE_PAGES_OWNERS_H_
#define OLLAMATRACE_ANALYZER_DIAGNOSE_PAGES_OWNERS_H_

#include <cstdint>
#include <vector>

#include "analyzer/replay/memory_layout.h"

namespace ollamatrace {

enum class Owner : uint8_t {
  kUnknown,
  kMainArena,    // glibc's, on the break
  kArenaHeap,    // of another arena of glibc's
  kMappedChunk,  // a large block of glibc's, with a mapping of its own
  kAllocator,    // another allocator's: it has live blocks in it
  kMapping,      // mapped by the program, as traced
  kThreadStack,  // also of threads that ended, kept by glibc for the next
  kMainStack,
  kGoHeap,
  kModuleData,  // .bss of modules; their .data is a file's mapping
  kLoader,      // the dynamic loader's: what it allocates before malloc is there, and the first
                // thread's thread-local storage
  kNamed,       // the program gave it a name, and it was not seen when it was mapped
  kTracer,
};

struct OwnedRange {
  uint64_t begin = 0;
  uint64_t end = 0;
  Owner owner = Owner::kUnknown;
  // kArenaHeap: of layout.map.heaps. kMapping: the mapping's key, maybe kNoKey. kNamed: of
  // layout.map.areas. Else 0.
  uint32_t index = 0;
};

// All anonymous areas of the layout's map, cut by owner: ascending, disjoint.
std::vector<OwnedRange> FindOwners(const MemoryLayout& layout);

// Whether this file is the tracer's: the library, or a journal or a trace of its.
bool IsTracerFile(const std::string& path);

// What a block of `size` bytes takes up in glibc's malloc (malloc.c, request2size): the chunk lies
// at address - 16, and its last eight bytes are the next chunk's first.
inline constexpr uint64_t kChunkHeader = 16;
inline constexpr uint64_t ChunkBytes(uint64_t size) {
  const uint64_t chunk = (size + 8 + 15) & ~uint64_t{15};
  return chunk < 32 ? 32 : chunk;
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_DIAGNOSE_PAGES_OWNERS_H_
