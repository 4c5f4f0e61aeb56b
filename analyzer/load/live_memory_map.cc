#include "analyzer/load/live_memory_map.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "formats/encode.h"
#include "formats/journal_layout.h"
#include "formats/memory_map.h"
#include "formats/memory_map_builder.h"

namespace ollamatrace {
namespace {

class FileCloser {
 public:
  explicit FileCloser(int fd) : fd_(fd) {}
  FileCloser(const FileCloser&) = delete;
  FileCloser& operator=(const FileCloser&) = delete;
  ~FileCloser() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }

 private:
  const int fd_;
};

constexpr uint64_t kExclusive = uint64_t{1} << 56;  // in pagemap (proc(5))

class Look {
 public:
  Look(uint32_t pid, size_t max_bytes, bool is_copy, uint64_t own_mappings)
      : pid_(static_cast<pid_t>(pid)),
        folder_(absl::StrCat("/proc/", pid)),
        page_bytes_(static_cast<uint64_t>(sysconf(_SC_PAGESIZE))),
        pagemap_(open(absl::StrCat(folder_, "/pagemap").c_str(), O_RDONLY | O_CLOEXEC)),
        is_copy_(is_copy),
        own_mappings_(own_mappings),
        body_(max_bytes) {
    builder_.Begin(body_.data(), body_.size(), page_bytes_);
  }

  absl::StatusOr<std::string> Run() {
    errno = 0;
    std::ifstream smaps(folder_ + "/smaps");
    SmapsParser parser;
    SmapsArea area;
    bool any = false;
    for (std::string line; std::getline(smaps, line);) {
      any = true;
      if (parser.Line(line.data(), line.size(), &area)) Take(area);
    }
    if (!any) {
      return errno == ENOENT || errno == ESRCH
                 ? absl::NotFoundError(absl::StrCat("no process ", pid_))
                 : absl::PermissionDeniedError(absl::StrCat(folder_, "/smaps cannot be read"));
    }
    if (parser.Last(&area)) Take(area);
    LookAtHeaps();
    LookAtThreads();
    LookAtOwnMappings();
    const size_t size = builder_.Finish();
    return std::string(body_.begin(), body_.begin() + static_cast<std::ptrdiff_t>(size));
  }

 private:
  void Take(const SmapsArea& area) {
    builder_.AddArea(area);
    if (!WantsPages(area, page_bytes_)) {
      builder_.CloseArea();
      return;
    }
    AddPages(area);
    if (!builder_.CloseArea()) {
      builder_.ReopenArea();
      AddPages(area);
      builder_.CloseArea();
    }
    if ((area.protection & 3) != 3 || area.kind != AreaKind::kAnonymous) return;
    uint64_t heap = (area.begin + kArenaHeapBytes - 1) & ~(kArenaHeapBytes - 1);
    for (; heap < area.end; heap += kArenaHeapBytes) heaps_.push_back(heap);
  }

  void AddPages(const SmapsArea& area) {
    std::vector<uint64_t> words(1 << 16);
    for (uint64_t page = area.begin / page_bytes_; page < area.end / page_bytes_;) {
      const uint64_t count = std::min<uint64_t>(words.size(), area.end / page_bytes_ - page);
      const ssize_t size =
          pread(pagemap_.fd(), words.data(), count * 8, static_cast<off_t>(page * 8));
      if (size < 8) return;
      if (is_copy_) {
        for (uint64_t& word : words) word |= kExclusive;
      }
      builder_.AddPages(words.data(), static_cast<size_t>(size) / 8);
      page += static_cast<uint64_t>(size) / 8;
    }
  }

  void LookAtHeaps() {
    for (const uint64_t heap : heaps_) {
      uint64_t words[4];
      iovec local = {words, sizeof words};
      iovec remote = {reinterpret_cast<void*>(heap), sizeof words};
      if (process_vm_readv(pid_, &local, 1, &remote, 1, 0) != sizeof words) continue;
      if (IsArenaHeap(words, page_bytes_)) builder_.AddHeap(heap, words[0], words[1]);
    }
  }

  void LookAtThreads() {
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(opendir((folder_ + "/task").c_str()),
                                                     closedir);
    if (folder == nullptr) return;
    while (const dirent* const entry = readdir(folder.get())) {
      int tid;
      if (!absl::SimpleAtoi(entry->d_name, &tid)) continue;
      void* list = nullptr;
      size_t size = 0;
      if (syscall(SYS_get_robust_list, tid, &list, &size) != 0) continue;
      builder_.AddThread(tid == pid_ ? ThreadKind::kFirst : ThreadKind::kOther,
                         reinterpret_cast<uint64_t>(list));
    }
  }

  void LookAtOwnMappings() {
    if (own_mappings_ == 0) return;
    // Plain words, as they are in the process: a count in half a word, then pairs.
    std::vector<uint64_t> words(sizeof(OwnMappings) / 8);
    iovec local = {words.data(), words.size() * 8};
    iovec remote = {reinterpret_cast<void*>(own_mappings_), words.size() * 8};
    if (process_vm_readv(pid_, &local, 1, &remote, 1, 0) != static_cast<ssize_t>(local.iov_len)) {
      return;
    }
    const uint64_t used = std::min<uint64_t>(words[0] & 0xffffffff, kMaxOwnMappings);
    for (uint64_t i = 0; i < used; ++i) {
      const uint64_t begin = words[1 + 2 * i], length = words[2 + 2 * i];
      if (begin != 0) builder_.AddOwn(begin, length);
    }
  }

  const pid_t pid_;
  const std::string folder_;
  const uint64_t page_bytes_;
  const FileCloser pagemap_;
  const bool is_copy_;
  const uint64_t own_mappings_;
  std::vector<uint8_t> body_;
  std::vector<uint64_t> heaps_;
  MemoryMapBuilder builder_;
};

}  // namespace

uint64_t OwnMappingsAddress(const std::string& journal) {
  const FileCloser file(open(journal.c_str(), O_RDONLY | O_CLOEXEC));
  std::vector<char> bytes(sizeof(JournalHeader));
  if (file.fd() < 0 ||
      pread(file.fd(), bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    return 0;
  }
  uint32_t version;
  uint64_t address;
  memcpy(&version, bytes.data() + offsetof(JournalHeader, version), sizeof version);
  memcpy(&address, bytes.data() + offsetof(JournalHeader, own_mappings), sizeof address);
  const bool known =
      memcmp(bytes.data(), kJournalMagic, sizeof kJournalMagic) == 0 && version == kJournalVersion;
  return known ? address : 0;
}

absl::StatusOr<std::string> ReadLiveMemoryMap(uint32_t pid, uint64_t own_mappings) {
  return Look(pid, kMaxMemoryMapBytes, /*is_copy=*/false, own_mappings).Run();
}

absl::StatusOr<std::string> ReadCopyMemoryMap(uint32_t pid) {
  return Look(pid, kMaxDecodedMapBytes, /*is_copy=*/true, /*own_mappings=*/0).Run();
}

}  // namespace ollamatrace
