#include "formats/byte_source.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ollamatrace {

size_t MemorySource::Read(uint64_t offset, size_t n, void* out) {
  if (offset >= bytes_.size()) return 0;
  n = std::min<uint64_t>(n, bytes_.size() - offset);
  if (n != 0) memcpy(out, bytes_.data() + offset, n);
  return n;
}

absl::StatusOr<std::unique_ptr<FileSource>> FileSource::Open(const std::string& path,
                                                             bool writable) {
  // O_NONBLOCK: opening a pipe must not wait for its other end. It means nothing for files.
  const int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK;
  std::unique_ptr<FileSource> source(new FileSource);
  if (writable) {
    source->fd_ = open(path.c_str(), flags | O_RDWR);
    source->writable_ = source->fd_ >= 0;
  }
  if (source->fd_ < 0) source->fd_ = open(path.c_str(), flags | O_RDONLY);
  struct stat status;
  if (source->fd_ < 0 || fstat(source->fd_, &status) != 0) {
    const int error = errno;
    const std::string text = absl::StrCat(path, ": cannot be opened: ", strerror(error));
    switch (error) {
      case ENOENT:
      case ENOTDIR:
        return absl::NotFoundError(absl::StrCat(path, ": no such file"));
      case EACCES:
      case EPERM:
        return absl::PermissionDeniedError(text);
      default:
        return absl::InternalError(text);
    }
  }
  if (!S_ISREG(status.st_mode)) {
    return absl::InvalidArgumentError(absl::StrCat(path, ": not a regular file"));
  }
  source->size_ = static_cast<uint64_t>(status.st_size);
  source->device_ = status.st_dev;
  source->inode_ = status.st_ino;
  return source;
}

FileSource::~FileSource() {
  if (fd_ >= 0) close(fd_);
}

size_t FileSource::Read(uint64_t offset, size_t n, void* out) {
  size_t done = 0;
  while (done < n) {
    const ssize_t got =
        pread(fd_, static_cast<uint8_t*>(out) + done, n - done, static_cast<off_t>(offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && error_ == 0) error_ = errno;
    if (got <= 0) break;
    done += static_cast<size_t>(got);
  }
  return done;
}

bool FileSource::Write(uint64_t offset, size_t n, const void* data) {
  return pwrite(fd_, data, n, static_cast<off_t>(offset)) == static_cast<ssize_t>(n);
}

}  // namespace ollamatrace
