// Makes the body of a MemoryMap record from the lines of /proc/PID/smaps and the words of
// /proc/PID/pagemap (proc(5), Documentation/admin-guide/mm/pagemap.rst).
//
// Runs inside the traced process: no allocation, no libc but memcpy, no C++ runtime; the same code
// serves the analyzer, which asks about a process that runs. Whoever calls reads the files.
#ifndef OLLAMATRACE_FORMATS_MEMORY_MAP_BUILDER_H_
#define OLLAMATRACE_FORMATS_MEMORY_MAP_BUILDER_H_

#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace {

// Values are part of the format.
enum class AreaKind : uint8_t {
  kAnonymous = 0,
  kFile = 1,   // also shared memory, which has a path
  kHeap = 2,   // "[heap]": the break's
  kStack = 3,  // "[stack]": the first thread's
  kNamed = 4,  // "[anon: ...]": anonymous, with a name that the program gave it
  kOther = 5,  // "[vdso]" and the like
};

// Values are part of the format.
enum class ThreadKind : uint8_t {
  kOther = 1,
  kTracer = 2,  // the tracer's own
  kFirst = 5,   // the process's first: its control block is the dynamic loader's
};

inline constexpr uint64_t kArenaHeapBytes = 64u << 20;  // glibc's HEAP_MAX_SIZE on 64 bits
inline constexpr size_t kMaxAreaName = 200;             // a longer path keeps its end

// One mapping as smaps tells it. Sizes in bytes.
struct SmapsArea {
  uint64_t begin = 0;
  uint64_t end = 0;
  uint8_t protection = 0;
  bool shared = false;
  AreaKind kind = AreaKind::kAnonymous;
  char name[kMaxAreaName] = {};
  size_t name_bytes = 0;
  uint64_t rss = 0;
  uint64_t anonymous = 0;
  uint64_t swap = 0;
  uint64_t shared_bytes = 0;
};

// Takes smaps line by line.
class SmapsParser {
 public:
  // `text` without its newline. True: `done` is the mapping before the one that this line begins.
  bool Line(const char* text, size_t size, SmapsArea* done);
  // The last mapping. False when there is none.
  bool Last(SmapsArea* done);

 private:
  SmapsArea area_;
  bool open_ = false;
};

// Whether the pages of an area are worth a look, one by one: anonymous memory, some of it in memory
// or in swap, and not a desert of a few pages in gigabytes.
bool WantsPages(const SmapsArea& area, uint64_t page_bytes);

// Whether these are the first four words of a heap of one of glibc's arenas (arena.c, heap_info):
// the arena, the heap before, the size, the size that is opened.
bool IsArenaHeap(const uint64_t words[4], uint64_t page_bytes);

class MemoryMapBuilder {
 public:
  // Builds into `out`.
  void Begin(uint8_t* out, size_t capacity, uint64_t page_bytes);

  // Areas in ascending order; for each AddArea, then what pagemap says of all its pages (any number
  // of calls) when WantsPages, then CloseArea. CloseArea false: what pagemap said does not fit what
  // smaps said, since it counts the page of zeros, too. Call ReopenArea and give the words again;
  // that page is then told from others (as far as can be).
  void AddArea(const SmapsArea& area);
  void AddPages(const uint64_t* words, size_t count);
  bool CloseArea();
  void ReopenArea();

  // After the areas, in any order. What finds no room is left out.
  void AddThread(ThreadKind kind, uint64_t address);
  void AddOwn(uint64_t begin, uint64_t length);
  void AddHeap(uint64_t address, uint64_t arena, uint64_t previous);

  // The size of the body.
  size_t Finish();

 private:
  bool HasRoom(size_t bytes) const { return size_ + bytes <= capacity_; }
  void Put(uint64_t value);
  void EndRun();

  uint8_t* out_ = nullptr;
  size_t capacity_ = 0;
  size_t size_ = 0;
  uint64_t page_bytes_ = 4096;
  uint64_t last_end_ = 0;
  uint64_t rest_[3] = {};
  bool areas_ended_ = false;
  // The name of the area before.
  char name_[kMaxAreaName] = {};
  size_t name_bytes_ = 0;
  // The area that is open.
  bool in_area_ = false;
  bool pages_ = false;  // its runs are being written
  bool retried_ = false;
  bool overflow_ = false;
  size_t flags_at_ = 0;
  size_t runs_at_ = 0;
  uint64_t expected_ = 0;  // pages in memory or swap, as smaps says
  uint64_t found_ = 0;
  uint64_t gap_ = 0;
  uint64_t run_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_MEMORY_MAP_BUILDER_H_
