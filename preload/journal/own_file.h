#ifndef OLLAMATRACE_PRELOAD_JOURNAL_OWN_FILE_H_
#define OLLAMATRACE_PRELOAD_JOURNAL_OWN_FILE_H_

// A file that the library writes, inside a process that does not know of it. The target may close
// our descriptor (closefrom, a daemon's loop) and be given its number for a file of its own: each
// use makes sure that the descriptor still is the file, and opens it again by its path when not.

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

inline constexpr size_t kMaxOwnPath = 4096;

// Plain data. One thread at a time.
struct OwnFile {
  int fd = -1;
  uint64_t device = 0;
  uint64_t inode = 0;
  char path[kMaxOwnPath] = {};
};

// Creates `path` for reading and writing, 0600; it must not exist. Its descriptor is close-on-exec
// and far above those that programs count on. 0, or -errno.
long CreateOwnFile(OwnFile* file, const char* path);
// The descriptor, made sure of, or -errno.
long OwnFileDescriptor(OwnFile* file);
// Writes all of it at `offset`. 0, or -errno; -EFBIG instead of SIGXFSZ when the process may not
// write files that large.
long WriteOwnFile(OwnFile* file, const void* data, size_t size, uint64_t offset);
// Lets `file` be the file `path` that has this device and inode, to be opened when it is used.
void NameOwnFile(OwnFile* file, const char* path, uint64_t device, uint64_t inode);
// Reads all of it. 0, or -errno: -ENODATA when the file is shorter.
long ReadOwnFile(OwnFile* file, void* data, size_t size, uint64_t offset);
// Gives the file another name, which must be free. 0, or -errno.
long RenameOwnFile(OwnFile* file, const char* path);
// Reserves disk blocks, by writing zeros where the file system cannot fallocate: for a range that
// was never written. Errors as above.
long ReserveOwnFile(OwnFile* file, uint64_t offset, uint64_t length);
// Whether the process may write at offsets below `size` (RLIMIT_FSIZE).
bool FileSizeAllowed(uint64_t size);
// Closes the descriptor if it still is this file; deletes the path when `remove`.
void CloseOwnFile(OwnFile* file, bool remove);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_JOURNAL_OWN_FILE_H_
