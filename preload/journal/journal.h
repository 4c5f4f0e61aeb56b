#ifndef OLLAMATRACE_PRELOAD_JOURNAL_JOURNAL_H_
#define OLLAMATRACE_PRELOAD_JOURNAL_JOURNAL_H_

// The process's journal: a sparse file, mapped and shared, laid out as
// formats/journal_layout.h says. What is stored in it survives SIGKILL.
//
// No page of it can be touched before its disk block is reserved: a full disk then is an error that
// is reported here, and never a SIGBUS in the target.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/journal/own_file.h"

namespace ollamatrace {

// Space is reserved in steps of this many bytes.
inline constexpr uint64_t kReserveStep = 64u << 10;
inline constexpr size_t kReserveSteps = (kJournalBytes + kReserveStep - 1) / kReserveStep;

// Plain data in zeroed memory; one for each process. Accessors may be used by any thread.
struct Journal {
  uint8_t* base = nullptr;  // the mapping, kJournalBytes long; nullptr: no journal
  OwnFile file;
  // A bit for each step; set after the blocks are there.
  std::atomic<uint64_t> reserved[(kReserveSteps + 63) / 64];

  JournalHeader* header() const { return reinterpret_cast<JournalHeader*>(base); }
  RingEntry* ring(uint32_t index) const {
    return reinterpret_cast<RingEntry*>(base + kRingsOffset) + index;
  }
  Event* ring_events(uint32_t index) const {
    return reinterpret_cast<Event*>(base + RingDataOffset(index));
  }
  StackNode* node(uint32_t id) const {
    return reinterpret_cast<StackNode*>(base + kNodesOffset) + id;
  }
  CounterSlot* counter(uint32_t index) const {
    return reinterpret_cast<CounterSlot*>(base + kCountersOffset) + index;
  }
  BlockEntry* block(uint32_t index) const {
    return reinterpret_cast<BlockEntry*>(base + kPoolOffset) + index;
  }
  MappingEntry* mapping(uint32_t index) const {
    return reinterpret_cast<MappingEntry*>(base + kMappingsOffset) + index;
  }
  PendingUnmap* pending_unmap(uint32_t index) const {
    return reinterpret_cast<PendingUnmap*>(base + kPendingOffset) + index;
  }
  uint64_t* undo() const { return reinterpret_cast<uint64_t*>(base + kUndoOffset); }
  uint8_t* definitions() const { return base + kDefinitionsOffset; }
  uint8_t* staging() const { return base + kStagingOffset; }
  uint8_t* identity() const { return base + kIdentityOffset; }
};

// Creates the file `path` (0600, must not exist) and maps it; the header's page is reserved and its
// state is kUnborn. 0, or -errno; then there is neither file nor mapping.
long CreateJournal(Journal* journal, const char* path);

// Makes [offset, offset + length) safe to touch. Thread-safe; a few loads when it already is.
// False: the disk is full, or the file is out of reach (chroot, a changed user): the range must not
// be touched.
bool ReserveJournalSlow(Journal* journal, uint64_t offset, uint64_t length);
inline bool ReserveJournal(Journal* journal, uint64_t offset, uint64_t length) {
  for (uint64_t step = offset / kReserveStep; step <= (offset + length - 1) / kReserveStep;
       ++step) {
    if ((journal->reserved[step / 64].load(std::memory_order_acquire) >> (step % 64) & 1) == 0) {
      return ReserveJournalSlow(journal, offset, length);
    }
  }
  return true;
}

// In a fork child only: whoever reserved space at that moment does not exist there.
void ResetJournalLock();

// Closes and deletes the file (when it still is ours); the mapping stays for those who still use
// it, and no more space can be reserved. Thread-safe.
void RemoveJournalFile(Journal* journal);

// Unmaps the journal and closes its file. `remove`: deletes the file, too (when it still is ours).
void CloseJournal(Journal* journal, bool remove);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_JOURNAL_JOURNAL_H_
