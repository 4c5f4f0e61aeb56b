#ifndef OLLAMATRACE_PRELOAD_CAPTURE_MODULE_FILE_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_MODULE_FILE_H_

// What a module's file tells the unwinder that its loaded segments do not: the .debug_frame
// section, and the version of Go that it was built with.
//
// Opens and reads files, by raw system calls; takes memory by mmap. Not for the hot path.

#include <link.h>

#include <cstddef>
#include <cstdint>

#include "preload/capture/cfi_section.h"

namespace ollamatrace::capture {

// What was loaded, as it was read from memory: a file that was put in its place meanwhile is told
// by it.
struct ModuleIdentity {
  static constexpr size_t kMaxBuildId = 32;

  uint64_t headers_hash = 0;  // HashProgramHeaders
  uint8_t build_id[kMaxBuildId] = {};
  size_t build_id_size = 0;  // 0: it has none
};

uint64_t HashProgramHeaders(const ElfW(Phdr) * headers, size_t count);

// Finds the NT_GNU_BUILD_ID note in the notes [data, data + size): its place and its size, at most
// kMaxBuildId; null when there is none. `align` is the segment's p_align.
const uint8_t* FindBuildId(const uint8_t* data, size_t size, size_t align, size_t* id_size);

struct ModuleFile {
  // Functions that only .debug_frame describes; null when there are none. Lives as long as the
  // process.
  const DebugFrame* debug_frame = nullptr;
  // Built by a Go whose stacks are known: from kOldestGo to kNewestGo.
  bool known_go = false;

  bool tells_nothing() const { return debug_frame == nullptr && !known_go; }
};

// go1.N
inline constexpr unsigned kOldestGo = 19;
inline constexpr unsigned kNewestGo = 26;

// What is kept of .debug_frame sections is bounded: memory in the target. It is never given back,
// so that a walk which still reads it comes to no harm; a file that is loaded again gets the same.
inline constexpr size_t kMaxDebugFrameBytes = size_t{16} << 20;   // of one section
inline constexpr size_t kMaxDebugFramesBytes = size_t{64} << 20;  // of all, with their tables
inline constexpr int kMaxDebugFrames = 256;

// Reads the file at `path`. Tells nothing when it cannot be read, is not the module's, or is not
// well-formed; compressed sections are not read. One caller at a time.
ModuleFile ReadModuleFile(const char* path, const ModuleIdentity& identity);

// Whether `data`, the beginning of a .go.buildinfo section, tells a version of Go that is known.
bool IsKnownGo(const uint8_t* data, size_t size);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_MODULE_FILE_H_
