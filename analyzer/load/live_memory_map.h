// The memory map of a process that runs, as it is now.
#ifndef OLLAMATRACE_ANALYZER_LOAD_LIVE_MEMORY_MAP_H_
#define OLLAMATRACE_ANALYZER_LOAD_LIVE_MEMORY_MAP_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace ollamatrace {

// Where the library in a process lists its own mappings, by the process's journal; 0 when it does
// not say.
uint64_t OwnMappingsAddress(const std::string& journal);

// A MemoryMap record's body. `own_mappings`: see above; 0: without the tracer's.
// NotFound: no such process; PermissionDenied: its /proc files are closed to us (they are open to
// its user, for a program that may be dumped).
// A process with more than fits into a record is cut.
absl::StatusOr<std::string> ReadLiveMemoryMap(uint32_t pid, uint64_t own_mappings = 0);

// The same of a forked copy, all of whose pages are its parent's, too: they cannot be told from the
// page of zeros, which counts as held. Up to kMaxDecodedMapBytes.
absl::StatusOr<std::string> ReadCopyMemoryMap(uint32_t pid);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_LOAD_LIVE_MEMORY_MAP_H_
