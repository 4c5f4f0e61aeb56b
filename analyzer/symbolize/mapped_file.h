// A regular file, mapped for reading.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_MAPPED_FILE_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_MAPPED_FILE_H_

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "analyzer/symbolize/elf_file.h"

namespace ollamatrace {

// Owns the descriptor and the mapping. Pages are read when they are touched: a large module costs
// only what is looked at. A file that another process cuts short meanwhile ends the program
// (SIGBUS), as for every reader of mapped files, libdw among them.
class MappedFile {
 public:
  // NotFound when there is no such file; another error when it cannot be read or is no regular file
  // (devices and pipes are not waited for).
  static absl::StatusOr<std::unique_ptr<MappedFile>> Open(const std::string& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  const std::string& path() const { return path_; }
  int fd() const { return fd_; }
  ByteSpan bytes() const { return bytes_; }

 private:
  MappedFile() = default;

  std::string path_;
  int fd_ = -1;
  ByteSpan bytes_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_MAPPED_FILE_H_
