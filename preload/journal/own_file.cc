#include "preload/journal/own_file.h"

#include <errno.h>
#include <string.h>

#include "preload/base/sys.h"

namespace ollamatrace {
namespace {

// Programs count on low descriptors being free, and on select() working with theirs.
constexpr int kLowestDescriptor = 700;

// Moves `fd` up where the limit on descriptors allows; keeps it where it is otherwise.
int MoveUp(int fd) {
  for (int lowest = kLowestDescriptor; lowest > 3; lowest /= 3) {
    const long moved = sys::Fcntl(fd, F_DUPFD_CLOEXEC, lowest);
    if (!sys::Failed(moved)) {
      sys::Close(fd);
      return static_cast<int>(moved);
    }
  }
  return fd;
}

bool IsFile(const OwnFile& file, int fd) {
  struct stat info;
  return fd >= 0 && !sys::Failed(sys::Fstat(fd, &info)) && info.st_dev == file.device &&
         info.st_ino == file.inode;
}

}  // namespace

long CreateOwnFile(OwnFile* file, const char* path) {
  const size_t length = strlen(path);
  if (length >= sizeof file->path) return -ENAMETOOLONG;
  const long fd = sys::Open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (sys::Failed(fd)) return fd;
  struct stat info;
  const long told = sys::Fstat(static_cast<int>(fd), &info);
  if (sys::Failed(told)) {
    sys::Close(static_cast<int>(fd));
    return told;
  }
  file->fd = MoveUp(static_cast<int>(fd));
  file->device = info.st_dev;
  file->inode = info.st_ino;
  memcpy(file->path, path, length + 1);
  return 0;
}

long OwnFileDescriptor(OwnFile* file) {
  if (IsFile(*file, file->fd)) return file->fd;
  file->fd = -1;
  const long fd = sys::Open(file->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
  if (sys::Failed(fd)) return fd;
  if (!IsFile(*file, static_cast<int>(fd))) {
    sys::Close(static_cast<int>(fd));
    return -ENOENT;
  }
  file->fd = MoveUp(static_cast<int>(fd));
  return file->fd;
}

bool FileSizeAllowed(uint64_t size) {
  struct rlimit limit;
  return sys::Failed(sys::Prlimit(RLIMIT_FSIZE, nullptr, &limit)) ||
         limit.rlim_cur == RLIM_INFINITY || size <= limit.rlim_cur;
}

long WriteOwnFile(OwnFile* file, const void* data, size_t size, uint64_t offset) {
  if (!FileSizeAllowed(offset + size)) return -EFBIG;
  const long fd = OwnFileDescriptor(file);
  if (sys::Failed(fd)) return fd;
  const char* from = static_cast<const char*>(data);
  while (size > 0) {
    const long written = sys::Pwrite(static_cast<int>(fd), from, size, offset);
    if (written == -EINTR) continue;
    if (sys::Failed(written)) return written;
    if (written == 0) return -ENOSPC;
    from += written;
    offset += static_cast<uint64_t>(written);
    size -= static_cast<size_t>(written);
  }
  return 0;
}

void NameOwnFile(OwnFile* file, const char* path, uint64_t device, uint64_t inode) {
  const size_t length = strlen(path);
  file->fd = -1;
  file->device = device;
  file->inode = inode;
  memcpy(file->path, path, length < sizeof file->path ? length + 1 : 0);
}

long ReadOwnFile(OwnFile* file, void* data, size_t size, uint64_t offset) {
  const long fd = OwnFileDescriptor(file);
  if (sys::Failed(fd)) return fd;
  char* to = static_cast<char*>(data);
  while (size > 0) {
    const long got = sys::Pread(static_cast<int>(fd), to, size, offset);
    if (got == -EINTR) continue;
    if (sys::Failed(got)) return got;
    if (got == 0) return -ENODATA;
    to += got;
    offset += static_cast<uint64_t>(got);
    size -= static_cast<size_t>(got);
  }
  return 0;
}

long RenameOwnFile(OwnFile* file, const char* path) {
  const size_t length = strlen(path);
  if (length >= sizeof file->path) return -ENAMETOOLONG;
  // What has our name now may be another's.
  struct stat info;
  long result = sys::FstatAt(AT_FDCWD, file->path, &info, AT_SYMLINK_NOFOLLOW);
  if (sys::Failed(result)) return result;
  if (info.st_dev != file->device || info.st_ino != file->inode) return -ENOENT;
  result = sys::RenameNoReplace(file->path, path);
  if (result == -EINVAL || result == -ENOSYS) {
    // A file system that cannot: a second name is not given where there is one either.
    result = sys::LinkAt(file->path, path);
    if (!sys::Failed(result)) sys::UnlinkAt(AT_FDCWD, file->path);
  }
  if (sys::Failed(result)) return result;
  memcpy(file->path, path, length + 1);
  return 0;
}

long ReserveOwnFile(OwnFile* file, uint64_t offset, uint64_t length) {
  if (!FileSizeAllowed(offset + length)) return -EFBIG;
  const long fd = OwnFileDescriptor(file);
  if (sys::Failed(fd)) return fd;
  long result;
  do {
    result = sys::Fallocate(static_cast<int>(fd), 0, offset, length);
  } while (result == -EINTR);
  if (result != -EOPNOTSUPP && result != -ENOSYS) return result;
  static const char kZeros[4096] = {};
  for (uint64_t done = 0; done < length; done += sizeof kZeros) {
    const uint64_t rest = length - done;
    result = WriteOwnFile(file, kZeros, rest < sizeof kZeros ? rest : sizeof kZeros, offset + done);
    if (result != 0) return result;
  }
  return 0;
}

void CloseOwnFile(OwnFile* file, bool remove) {
  if (file->path[0] == '\0') return;
  if (remove) {
    struct stat info;
    if (!sys::Failed(sys::FstatAt(AT_FDCWD, file->path, &info, AT_SYMLINK_NOFOLLOW)) &&
        info.st_dev == file->device && info.st_ino == file->inode) {
      sys::UnlinkAt(AT_FDCWD, file->path);
    }
  }
  if (IsFile(*file, file->fd)) sys::Close(file->fd);
  file->fd = -1;
  file->path[0] = '\0';
}

}  // namespace ollamatrace
