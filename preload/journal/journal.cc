#include "preload/journal/journal.h"

#include <errno.h>

#include "preload/base/lock.h"
#include "preload/base/signal_block.h"
#include "preload/base/sys.h"

namespace ollamatrace {
namespace {

// Two reservations of one step at a time would zero each other's data where there is no fallocate.
FutexLock g_reserve_lock;

bool IsReserved(const Journal& journal, uint64_t step) {
  return (journal.reserved[step / 64].load(std::memory_order_relaxed) >> (step % 64) & 1) != 0;
}

}  // namespace

long CreateJournal(Journal* journal, const char* path) {
  if (!FileSizeAllowed(kJournalBytes)) return -EFBIG;
  long result = CreateOwnFile(&journal->file, path);
  if (result != 0) return result;
  result = sys::Ftruncate(journal->file.fd, kJournalBytes);
  if (result == 0) {
    // Steps are opened as they are reserved: a target that calls mlockall must not pull in the
    // rest.
    journal->base = static_cast<uint8_t*>(sys::Mmap(
        nullptr, kJournalBytes, PROT_NONE, MAP_SHARED | MAP_NORESERVE, journal->file.fd, 0));
    if (journal->base == nullptr) result = -ENOMEM;
  }
  // Nothing is in the file: what the kernel reads around a page that is touched, megabytes by
  // default on some systems, are zeros that it has to make.
  if (result == 0) sys::Madvise(journal->base, kJournalBytes, 1 /* MADV_RANDOM */);
  if (result == 0 && !ReserveJournal(journal, 0, kJournalPage)) result = -ENOSPC;
  if (result != 0) CloseJournal(journal, true);
  return result;
}

bool ReserveJournalSlow(Journal* journal, uint64_t offset, uint64_t length) {
  const SignalBlock no_signals;
  FutexLockHolder hold(&g_reserve_lock);
  const uint64_t last = (offset + length - 1) / kReserveStep;
  for (uint64_t step = offset / kReserveStep; step <= last;) {
    if (IsReserved(*journal, step)) {
      ++step;
      continue;
    }
    uint64_t end = step + 1;
    while (end <= last && !IsReserved(*journal, end)) ++end;
    const uint64_t begin = step * kReserveStep;
    const uint64_t bytes = (end - step) * kReserveStep;
    if (ReserveOwnFile(&journal->file, begin, bytes) != 0 ||
        sys::Mprotect(journal->base + begin, bytes, PROT_READ | PROT_WRITE) != 0) {
      return false;
    }
    for (; step < end; ++step) {
      journal->reserved[step / 64].fetch_or(uint64_t{1} << (step % 64), std::memory_order_release);
    }
  }
  return true;
}

void ResetJournalLock() { g_reserve_lock.Reset(); }

void RemoveJournalFile(Journal* journal) {
  // Whoever reserves space uses the descriptor, whose number may be the target's afterwards.
  const SignalBlock no_signals;
  const FutexLockHolder hold(&g_reserve_lock);
  CloseOwnFile(&journal->file, true);
}

void CloseJournal(Journal* journal, bool remove) {
  if (journal->base != nullptr) sys::Munmap(journal->base, kJournalBytes);
  journal->base = nullptr;
  CloseOwnFile(&journal->file, remove);
}

}  // namespace ollamatrace
