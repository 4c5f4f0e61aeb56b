#include "preload/drain/proc_file.h"

#include "preload/base/sys.h"
#include "preload/base/text.h"

namespace ollamatrace {
namespace {

constexpr int kLowestDescriptor = 700;

}  // namespace

bool IsOpen(const ProcFile& file) {
  struct stat info;
  return file.fd >= 0 && !sys::Failed(sys::Fstat(file.fd, &info)) && info.st_dev == file.device &&
         info.st_ino == file.inode;
}

int OpenProcFile(ProcFile* file, const char* folder, const char* name, int flags) {
  if (IsOpen(*file)) return file->fd;
  file->fd = -1;
  char path[64];
  TextWriter(path, sizeof path).Put(folder).Put('/').Put(name);
  const long low = sys::Open(path, O_RDONLY | O_CLOEXEC | flags);
  if (sys::Failed(low)) return -1;
  long fd = sys::Fcntl(static_cast<int>(low), F_DUPFD_CLOEXEC, kLowestDescriptor);
  if (sys::Failed(fd)) {
    fd = low;  // the limit on descriptors is low
  } else {
    sys::Close(static_cast<int>(low));
  }
  struct stat info;
  if (sys::Failed(sys::Fstat(static_cast<int>(fd), &info))) {
    sys::Close(static_cast<int>(fd));
    return -1;
  }
  *file = {static_cast<int>(fd), info.st_dev, info.st_ino};
  return file->fd;
}

void CloseProcFile(ProcFile* file) {
  if (IsOpen(*file)) sys::Close(file->fd);
  *file = ProcFile();
}

}  // namespace ollamatrace
