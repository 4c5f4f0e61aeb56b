#include "analyzer/scan/process_copy.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "formats/journal_layout.h"
#include "formats/segment_files.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kLeaseNs = 2'000'000'000;
constexpr uint64_t kRenewNs = 200'000'000;
constexpr uint64_t kReadyNs = 10'000'000'000;  // the library's thread sleeps for a second at most
constexpr char kLibraryThread[] = "ollamatrace";  // its name
constexpr uint64_t kStartNs = 2'000'000'000;      // of one that begins to run just now
constexpr uint64_t kForkNs = 1'000'000'000;

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void Nap(uint64_t nanoseconds) {
  const timespec duration = {0, static_cast<long>(nanoseconds)};
  nanosleep(&duration, nullptr);
}

// The number that a thread or process has in its own namespace, by the last of NSpid (proc(5)).
pid_t InnerId(const std::string& status_path) {
  std::ifstream file(status_path);
  for (std::string line; std::getline(file, line);) {
    if (!absl::StartsWith(line, "NSpid:")) continue;
    const std::vector<std::string> ids =
        absl::StrSplit(line.substr(6), absl::ByAnyChar(" \t"), absl::SkipEmpty());
    int id = 0;
    if (!ids.empty() && absl::SimpleAtoi(ids.back(), &id)) return id;
  }
  return 0;
}

pid_t ThreadByInnerId(pid_t pid, pid_t inner) {
  for (const pid_t tid : ThreadsOf(pid)) {
    if (InnerId(absl::StrCat("/proc/", pid, "/task/", tid, "/status")) == inner) return tid;
  }
  return 0;
}

// A child of this thread by its number in the target's namespace.
pid_t ChildByInnerId(pid_t pid, pid_t tid, pid_t inner) {
  std::ifstream file(absl::StrCat("/proc/", pid, "/task/", tid, "/children"));
  for (pid_t child; file >> child;) {
    if (InnerId(absl::StrCat("/proc/", child, "/status")) == inner) return child;
  }
  // Kernels without that list: the number is ours where there is one namespace.
  return InnerId(absl::StrCat("/proc/", inner, "/status")) == inner ? inner : 0;
}

bool HasLibraryThread(pid_t pid) {
  const std::vector<pid_t> threads = ThreadsOf(pid);
  return std::any_of(threads.begin(), threads.end(), [pid](pid_t tid) {
    std::ifstream file(absl::StrCat("/proc/", pid, "/task/", tid, "/comm"));
    std::string name;
    return std::getline(file, name) && name == kLibraryThread;
  });
}

bool AwaitLibraryThread(pid_t pid) {
  const uint64_t deadline = NowNs() + kStartNs;
  while (!HasLibraryThread(pid)) {
    if (NowNs() > deadline) return false;
    Nap(10'000'000);
  }
  return true;
}

uint64_t RobustList(pid_t tid) {
  void* list = nullptr;
  size_t size = 0;
  return syscall(SYS_get_robust_list, tid, &list, &size) == 0 ? reinterpret_cast<uint64_t>(list)
                                                              : 0;
}

std::string ErrnoText(absl::string_view what) { return absl::StrCat(what, ": ", strerror(errno)); }

// What is in a sparse file. The room is made, and touched, before the process stands still.
class JournalBytes {
 public:
  // Before the pause: as much as there is, and some more.
  bool Prepare(int fd) {
    if (!Read(fd)) return false;
    bytes_.resize(bytes_.size() + bytes_.size() / 4 + kSpareBytes);
    return true;
  }

  bool Read(int fd) {
    extents_.clear();
    size_t used = 0;
    for (off_t at = 0;;) {
      const off_t begin = lseek(fd, at, SEEK_DATA);
      if (begin < 0) return errno == ENXIO;  // none left
      const off_t end = lseek(fd, begin, SEEK_HOLE);
      if (end <= begin) return false;
      const size_t size = static_cast<size_t>(end - begin);
      if (bytes_.size() < used + size) bytes_.resize(used + size);
      for (size_t done = 0; done < size;) {
        const ssize_t got =
            pread(fd, bytes_.data() + used + done, size - done, begin + static_cast<off_t>(done));
        if (got <= 0) return false;
        done += static_cast<size_t>(got);
      }
      extents_.push_back({begin, size});
      used += size;
      at = end;
    }
  }

  bool WriteTo(const std::string& path, off_t file_size) const {
    const int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    bool done = ftruncate(fd, file_size) == 0;
    size_t used = 0;
    for (const Extent& extent : extents_) {
      done = done && pwrite(fd, bytes_.data() + used, extent.size, extent.begin) ==
                         static_cast<ssize_t>(extent.size);
      used += extent.size;
    }
    return close(fd) == 0 && done;
  }

 private:
  static constexpr size_t kSpareBytes = 1u << 20;
  struct Extent {
    off_t begin = 0;
    size_t size = 0;
  };
  std::vector<Extent> extents_;
  std::vector<char> bytes_;  // of one extent after the other
};

}  // namespace

// The words in the journal by which the library is asked, and the lease that is renewed.
class ProcessCopy::Request {
 public:
  static absl::StatusOr<std::unique_ptr<Request>> Open(const std::string& path) {
    auto request = std::unique_ptr<Request>(new Request());
    request->fd_ = open(path.c_str(), O_RDWR | O_CLOEXEC);
    if (request->fd_ < 0) return absl::PermissionDeniedError(ErrnoText(path));
    void* const page =
        mmap(nullptr, kJournalPage, PROT_READ | PROT_WRITE, MAP_SHARED, request->fd_, 0);
    if (page == MAP_FAILED) return absl::InternalError(ErrnoText(path));
    request->header_ = static_cast<JournalHeader*>(page);
    if (memcmp(request->header_->magic, kJournalMagic, sizeof kJournalMagic) != 0 ||
        request->header_->version != kJournalVersion) {
      return absl::FailedPreconditionError(
          absl::StrCat(path, ": a journal of another version of the library"));
    }
    return request;
  }
  ~Request() {
    if (header_ != nullptr) {
      if (asked_) {
        header_->snapshot_lease_ns.store(0, std::memory_order_release);
        header_->snapshot_request.store(0, std::memory_order_release);
      }
      done_.store(true);
      if (renewing_.joinable()) renewing_.join();
      munmap(header_, kJournalPage);
    }
    if (fd_ >= 0) close(fd_);
  }

  int fd() const { return fd_; }

  absl::Status Ask() {
    // The lease of a reader that was killed runs out.
    const uint64_t deadline = NowNs() + 2 * kLeaseNs;
    uint64_t lease = header_->snapshot_lease_ns.load();
    while (lease > NowNs() ||
           !header_->snapshot_lease_ns.compare_exchange_strong(lease, NowNs() + kLeaseNs)) {
      if (NowNs() > deadline) {
        return absl::UnavailableError("another scan of this process is going on");
      }
      Nap(1'000'000);
      lease = header_->snapshot_lease_ns.load();
    }
    asked_ = true;
    header_->snapshot_answer.store(0);
    header_->snapshot_request.store(kSnapshotPrepare);
    renewing_ = std::thread([this] {
      while (!done_.load()) {
        Nap(kRenewNs);
        if (!done_.load()) Renew();
      }
    });
    return absl::OkStatus();
  }
  void Fork() { header_->snapshot_request.store(kSnapshotFork); }
  // The journal was copied: the library's thread goes on.
  void LetGo() { header_->snapshot_request.store(0, std::memory_order_release); }
  // The number of an answer of this kind, or of kSnapshotFailed, negative; 0: none in time.
  int64_t Answer(uint64_t kind, uint64_t timeout_ns, uint64_t poll_ns) const {
    const uint64_t deadline = NowNs() + timeout_ns;
    do {
      const uint64_t answer = header_->snapshot_answer.load(std::memory_order_acquire);
      const int64_t number = static_cast<int64_t>(answer >> 32);
      if ((answer & 0xffffffff) == kind) return number;
      if ((answer & 0xffffffff) == kSnapshotFailed) return -number;
      Nap(poll_ns);
    } while (NowNs() < deadline);
    return 0;
  }

 private:
  void Renew() { header_->snapshot_lease_ns.store(NowNs() + kLeaseNs); }

  int fd_ = -1;
  JournalHeader* header_ = nullptr;
  bool asked_ = false;
  std::atomic<bool> done_{false};
  std::thread renewing_;
};

absl::StatusOr<std::string> FindJournal(pid_t pid) {
  const std::string folder = absl::StrCat("/proc/", pid);
  std::ifstream maps(folder + "/maps");
  if (!maps && access(folder.c_str(), F_OK) != 0) {
    return absl::NotFoundError(absl::StrCat("no process ", pid));
  }
  if (!maps) {
    return absl::PermissionDeniedError(
        absl::StrCat("process ", pid,
                     ": its memory map is closed to this user; run this as root or as its user"));
  }
  for (std::string line; std::getline(maps, line);) {
    if (!absl::EndsWith(line, ".journal")) continue;
    const size_t slash = line.find('/');
    if (slash == std::string::npos) continue;
    const std::string path = line.substr(slash);
    if (access(path.c_str(), F_OK) == 0) return path;
    // In another mount namespace.
    const std::string inside = folder + "/root" + path;
    if (access(inside.c_str(), F_OK) == 0) return inside;
    return absl::NotFoundError(absl::StrCat(path, ": cannot be reached from here"));
  }
  return absl::NotFoundError(
      absl::StrCat("process ", pid, " is not traced; start it under the library"));
}

absl::StatusOr<std::unique_ptr<ProcessCopy>> ProcessCopy::Make(pid_t pid,
                                                               const std::string& journal) {
  auto copy = std::unique_ptr<ProcessCopy>(new ProcessCopy());
  absl::StatusOr<std::unique_ptr<Request>> opened = Request::Open(journal);
  if (!opened.ok()) return opened.status();
  copy->request_ = *std::move(opened);
  Request& request = *copy->request_;

  // What may not be stopped need not be asked.
  if (absl::Status status = MayTrace(pid); !status.ok()) return status;
  if (!AwaitLibraryThread(pid)) {
    return absl::UnavailableError(
        absl::StrCat("process ", pid,
                     ": the library's thread does not run yet; it starts with some hundred "
                     "allocations"));
  }
  if (absl::Status status = request.Ask(); !status.ok()) return status;
  const int64_t inner = request.Answer(kSnapshotReady, kReadyNs, 1'000'000);
  if (inner <= 0) {
    return absl::UnavailableError(
        absl::StrCat("process ", pid, ": the library's thread does not answer; try again"));
  }
  const pid_t own = ThreadByInnerId(pid, static_cast<pid_t>(inner));
  if (own == 0) return absl::NotFoundError(absl::StrCat("process ", pid, " has ended"));

  JournalBytes bytes;
  if (!bytes.Prepare(request.fd())) return absl::InternalError(ErrnoText(journal));
  int64_t forked;
  bool journal_read;
  {
    StoppedThreads stopped;
    if (absl::Status status = stopped.Seize(pid, own); !status.ok()) return status;
    const uint64_t begin_ns = NowNs();
    if (absl::Status status = stopped.Stop(); !status.ok()) return status;
    copy->time_ns_ = NowNs();
    request.Fork();
    journal_read = bytes.Read(request.fd());
    for (const StoppedThread& thread : stopped.threads()) {
      const uint64_t list = RobustList(thread.tid);
      if (thread.tid == pid) {
        copy->first_control_block_ = list;
      } else if (list != 0) {
        copy->control_blocks_.push_back(list);
      }
    }
    copy->own_control_block_ = RobustList(own);
    copy->threads_ = stopped.threads();
    forked = request.Answer(kSnapshotForked, kForkNs, 20'000);
    copy->OpenTrace(std::string(absl::StripSuffix(journal, ".journal")));
    stopped.Resume();
    request.LetGo();
    copy->pause_ns_ = NowNs() - begin_ns;
  }
  if (forked <= 0) {
    return absl::UnavailableError(
        absl::StrCat("process ", pid, ": it could not be copied", forked == 0 ? "" : ": ",
                     forked == 0 ? "" : strerror(static_cast<int>(-forked))));
  }
  copy->copy_ = ChildByInnerId(pid, own, static_cast<pid_t>(forked));
  if (copy->copy_ == 0) return absl::NotFoundError(absl::StrCat("process ", pid, " has ended"));
  if (!journal_read) return absl::InternalError(ErrnoText(journal));

  const char* const temporary = getenv("TMPDIR");
  std::string pattern =
      absl::StrCat(temporary != nullptr && *temporary != '\0' ? temporary : "/tmp",
                   "/ollama-leakview-scan-XXXXXX");
  if (mkdtemp(pattern.data()) == nullptr) return absl::InternalError(ErrnoText(pattern));
  copy->folder_ = pattern;
  const std::string stem = pattern + "/trace";
  copy->trace_ = stem + ".journal";
  struct stat info;
  if (fstat(request.fd(), &info) != 0 || !bytes.WriteTo(copy->trace_, info.st_size)) {
    return absl::InternalError(ErrnoText(copy->folder_));
  }
  for (OpenFile& file : copy->files_) {
    const std::string link = stem + file.suffix;
    if (symlink(absl::StrCat("/proc/", getpid(), "/fd/", file.fd).c_str(), link.c_str()) != 0) {
      return absl::InternalError(ErrnoText(link));
    }
    file.link = link;
  }
  return copy;
}

// The files beside the journal. They only grow, and the journal says how much of them counts; but
// a limit on the trace's bytes may delete some, so they are held open.
void ProcessCopy::OpenTrace(const std::string& stem) {
  const SegmentFiles found = FindSegmentFiles(stem);
  for (const auto* files : {&found.segments, &found.checkpoints}) {
    for (const auto& [number, path] : *files) {
      const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
      if (fd >= 0) files_.push_back({fd, path.substr(stem.size()), ""});
    }
  }
}

ProcessCopy::~ProcessCopy() {
  request_.reset();  // takes the lease back
  if (copy_ > 0) kill(copy_, SIGKILL);
  for (const OpenFile& file : files_) {
    if (!file.link.empty()) unlink(file.link.c_str());
    close(file.fd);
  }
  if (!folder_.empty()) {
    unlink(trace_.c_str());
    rmdir(folder_.c_str());
  }
}

}  // namespace ollamatrace
