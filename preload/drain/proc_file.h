#ifndef OLLAMATRACE_PRELOAD_DRAIN_PROC_FILE_H_
#define OLLAMATRACE_PRELOAD_DRAIN_PROC_FILE_H_

// A file of /proc that is kept open, close-on-exec, above the descriptors that programs count on.
// The target may close it, and may have its number for a file of its own: each use asks whether it
// is still ours. Raw system calls only.

#include <cstdint>

namespace ollamatrace {

struct ProcFile {
  int fd = -1;
  uint64_t device = 0;
  uint64_t inode = 0;
};

bool IsOpen(const ProcFile& file);
// The descriptor of `folder`/`name`, opened with `flags` unless it is open; -1 when it cannot be.
int OpenProcFile(ProcFile* file, const char* folder, const char* name, int flags = 0);
void CloseProcFile(ProcFile* file);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_PROC_FILE_H_
