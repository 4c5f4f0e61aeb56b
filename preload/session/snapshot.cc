#include "preload/session/snapshot.h"

#include <sys/wait.h>

#include "preload/base/clock.h"
#include "preload/base/sys.h"
#include "preload/session/session.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kLongestLeaseNs = 10'000'000'000;
constexpr long kPollNs = 50'000;
constexpr long kCopyNapNs = 20'000'000;
constexpr int kMaxDescriptors = 4096;  // closed one by one where close_range is missing

int g_copy = 0;

uint64_t NowNs() {
  struct timespec now;
  if (sys::ClockGettime(CLOCK_MONOTONIC, &now) != 0) return ~uint64_t{0};
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

void Nap(long nanoseconds) {
  const struct timespec duration = {0, nanoseconds};
  sys::Nanosleep(&duration);
}

bool LeaseIsOver(const JournalHeader& header) {
  const uint64_t lease_ns = header.snapshot_lease_ns.load(std::memory_order_acquire);
  const uint64_t now_ns = NowNs();
  // One that ends in an hour is a mistake.
  return now_ns >= lease_ns || lease_ns - now_ns > kLongestLeaseNs;
}

uint64_t AnswerWord(uint64_t kind, long number) {
  return kind | static_cast<uint64_t>(number) << 32;
}

void Answer(JournalHeader* header, uint64_t kind, long number) {
  header->snapshot_answer.store(AnswerWord(kind, number), std::memory_order_release);
}

// The copy: raw system calls only. Locks, and libc's idea of the thread, are the target's.
// `ready`: the answer before the fork.
[[noreturn]] void BeACopy(const JournalHeader& header, uint64_t ready) {
  // A socket that the target closes is to be closed.
  if (sys::Failed(sys::Call(__NR_close_range, 0, ~0u, 0))) {
    for (int fd = 0; fd < kMaxDescriptors; ++fd) sys::Close(fd);
  }
  const long fd = sys::Open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
  if (!sys::Failed(fd)) {
    sys::Write(static_cast<int>(fd), "1000", 4);
    sys::Close(static_cast<int>(fd));
  }
  // Another reader may have renewed the lease of one that was killed, for a copy of its own.
  const uint64_t own = AnswerWord(kSnapshotForked, sys::Call(__NR_getpid));
  const auto mine = [&] {
    const uint64_t answer = header.snapshot_answer.load(std::memory_order_acquire);
    return answer == ready || answer == own;
  };
  while (mine() && !LeaseIsOver(header)) Nap(kCopyNapNs);
  while (true) sys::Call(__NR_exit_group, 0);
}

void Bury() {
  if (g_copy == 0) return;
  const long result = sys::Call(__NR_wait4, g_copy, 0, __WALL | WNOHANG, 0);
  if (result != 0) g_copy = 0;  // buried, or never ours
}

}  // namespace

void ServeSnapshot(const std::atomic<bool>& give_up, void (*look)()) {
  Bury();
  JournalHeader* const header = g_session.journal.header();
  if (header->snapshot_request.load(std::memory_order_acquire) != kSnapshotPrepare) return;
  if (g_copy != 0) return;  // soon: the copy of a reader that was killed ends
  uint64_t request = kSnapshotPrepare;
  if (!LeaseIsOver(*header)) {
    look();
    Answer(header, kSnapshotReady, sys::Gettid());
    while (request == kSnapshotPrepare && !LeaseIsOver(*header) &&
           !give_up.load(std::memory_order_relaxed)) {
      Nap(kPollNs);
      request = header->snapshot_request.load(std::memory_order_acquire);
    }
  }
  if (request == kSnapshotFork && !LeaseIsOver(*header)) {
    // No flags, no signal when it ends: the target's own waits do not see it.
    const uint64_t ready = header->snapshot_answer.load(std::memory_order_acquire);
    const long copy = sys::Call(__NR_clone, 0, 0, 0, 0, 0);
    if (copy == 0) BeACopy(*header, ready);
    if (sys::Failed(copy)) {
      Answer(header, kSnapshotFailed, -copy);
    } else {
      g_copy = static_cast<int>(copy);
      Answer(header, kSnapshotForked, copy);
      // The reader copies the journal, which is to be as old as the copy.
      while (header->snapshot_request.load(std::memory_order_acquire) == kSnapshotFork &&
             !LeaseIsOver(*header) && !give_up.load(std::memory_order_relaxed)) {
        Nap(kPollNs);
      }
    }
  }
  header->snapshot_request.store(0, std::memory_order_release);
}

void ForgetSnapshot() { g_copy = 0; }

}  // namespace ollamatrace
