#ifndef OLLAMATRACE_PRELOAD_DRAIN_MEMORY_MAP_SAMPLER_H_
#define OLLAMATRACE_PRELOAD_DRAIN_MEMORY_MAP_SAMPLER_H_

// Now and then, a look at all mappings of the process: which there are, what of them is in memory,
// page by page where the memory is anonymous, whose stacks are where, and the heaps of glibc's
// arenas. Read from /proc/self/smaps, /proc/self/pagemap, /proc/self/task, /proc/self/mem.
//
// Large processes take long: the look is taken in steps of about a millisecond, between which the
// drain goes on; the kernel tells of one mapping at a time, 12 ms for each GiB in memory. After a
// look took t of CPU time the next one is at least 100 t away, 1 % of one CPU, and 1000 times its
// longest step.
// The first one comes at once, so that a reader who looks at the living process knows the tracer's
// own; the next every 10 s at first, every minute after a quarter of an hour, and earlier when the
// anonymous memory of the process has changed by a tenth, or the library has mapped more for
// itself.
//
// Writes no errno; allocates nothing.

#include <cstddef>
#include <cstdint>

#include "formats/encode.h"
#include "formats/memory_map_builder.h"
#include "preload/drain/proc_file.h"

namespace ollamatrace {

enum class MapStep : uint8_t {
  kIdle,    // no look is being taken
  kMore,    // call again
  kDone,    // `buffers->body` has it
  kFailed,  // one of the files cannot be read; the next look is a while away
};

inline constexpr size_t kMaxHeapsLookedAt = 512;

// All zeros to begin with.
struct MemoryMapBuffers {
  uint64_t heaps[kMaxHeapsLookedAt];  // mappings where an arena's heap may be
  uint64_t words[2048];
  char text[8192];
  uint8_t body[kMaxMemoryMapBytes];
};

// Plain data, constant initialized. One thread at a time.
struct MemoryMapContext {
  MemoryMapBuffers* buffers = nullptr;  // the caller's
  const char* proc = "/proc/self";
  uint64_t page_bytes = 4096;

  // The sampler's own.
  bool active = false;
  uint64_t begin_ns = 0;       // of this look
  uint64_t origin_ns = 0;      // of the first sample
  uint64_t not_before_ns = 0;  // of the next look
  uint64_t due_ns = 0;
  uint64_t longest_ns = 0;  // of its steps
  uint64_t cost_ns = 0;     // CPU time of this look so far
  uint64_t held_bytes = 0;  // anonymous memory at the last look
  bool has_held = false;
  uint32_t own_seen = 0;  // mappings of ours at the last look
  ProcFile smaps, pagemap, memory;
  SmapsParser parser;
  MemoryMapBuilder builder;
  SmapsArea area;        // being looked at, page by page
  uint64_t page_at = 0;  // its next page; 0: none is
  uint32_t heap_count = 0;
  bool smaps_ended = false;
  size_t text_size = 0;  // of the part of buffers->text that was not parsed yet
  size_t body_size = 0;
};

// Whether a look is due, given what the process holds (RssAnon + VmSwap; kUnknownGauge: not known).
bool MemoryMapIsDue(MemoryMapContext* context, uint64_t now_ns, uint64_t held_bytes);
// Begins one. Nothing when one is being taken.
void BeginMemoryMap(MemoryMapContext* context, uint64_t now_ns);
// Takes the next step. kDone: `buffers->body` holds a MemoryMap record's body of the time
// `begin_ns`, until the next one begins.
MapStep StepMemoryMap(MemoryMapContext* context);
// Gives up what was begun, and closes the files. In a fork child, before the context is used again.
void CloseMemoryMap(MemoryMapContext* context);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_MEMORY_MAP_SAMPLER_H_
