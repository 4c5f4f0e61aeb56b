// Bytes at offsets: a file, or memory. What the readers take their input from, so that tests and
// fuzz targets need no files.
#ifndef OLLAMATRACE_FORMATS_BYTE_SOURCE_H_
#define OLLAMATRACE_FORMATS_BYTE_SOURCE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {

// Not thread-safe.
class ByteSource {
 public:
  virtual ~ByteSource() = default;
  // The size when the source was opened; it may grow or shrink since.
  virtual uint64_t size() const = 0;
  // Copies up to `n` bytes from `offset` on to `out` and returns how many there were: fewer at the
  // end, or when reading failed.
  virtual size_t Read(uint64_t offset, size_t n, void* out) = 0;
  // errno of the first read that failed; 0: none did.
  virtual int error() const { return 0; }

  bool ReadAll(uint64_t offset, size_t n, void* out) { return Read(offset, n, out) == n; }
};

// Does not own its bytes.
class MemorySource : public ByteSource {
 public:
  explicit MemorySource(absl::string_view bytes) : bytes_(bytes) {}
  uint64_t size() const override { return bytes_.size(); }
  size_t Read(uint64_t offset, size_t n, void* out) override;

 private:
  absl::string_view bytes_;
};

// Reads with pread, never through a mapping: a file that shrinks meanwhile is a short read, not a
// SIGBUS.
class FileSource : public ByteSource {
 public:
  // Errors, each one line with the path in it: NotFound; InvalidArgument (not a regular file);
  // PermissionDenied; Internal. `writable`: opens for writing as well when that is permitted.
  static absl::StatusOr<std::unique_ptr<FileSource>> Open(const std::string& path,
                                                          bool writable = false);
  ~FileSource() override;
  FileSource(const FileSource&) = delete;
  FileSource& operator=(const FileSource&) = delete;

  uint64_t size() const override { return size_; }
  size_t Read(uint64_t offset, size_t n, void* out) override;
  int error() const override { return error_; }

  bool writable() const { return writable_; }
  bool Write(uint64_t offset, size_t n, const void* data);
  uint64_t device() const { return device_; }
  uint64_t inode() const { return inode_; }

 private:
  FileSource() = default;

  int fd_ = -1;
  int error_ = 0;
  bool writable_ = false;
  uint64_t size_ = 0;
  uint64_t device_ = 0;
  uint64_t inode_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_BYTE_SOURCE_H_
