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
// A process with more than fits into a record is cut.
absl::StatusOr<std::string> ReadLiveMemoryMap(uint32_t pid);

// The same of a forked copy, all of whose pages are its parent's, too: they cannot be told from the
// page of zeros, which counts as held. Up to kMaxDecodedMapBytes.
absl::StatusOr<std::string> ReadCopyMemoryMap(uint32_t pid);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_LOAD_LIVE_MEMORY_MAP_H_
