// The memory map of a process that runs, as it is now.
#ifndef OLLAMATRACE_ANALYZER_LOAD_LIVE_MEMORY_MAP_H_
#define OLLAMATRACE_ANALYZER_LOAD_LIVE_MEMORY_MAP_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace ollamatrace {

// A MemoryMap record's body, without the tracer's own mappings, which cannot be told from outside.
// NotFound: no such process; PermissionDenied: its /proc files are closed to us (they are open to
// its user, for a program that may be dumped).
absl::StatusOr<std::string> ReadLiveMemoryMap(uint32_t pid);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_LOAD_LIVE_MEMORY_MAP_H_
