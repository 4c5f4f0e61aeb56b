#ifndef OLLAMATRACE_PRELOAD_DRAIN_UNDO_LOG_H_
#define OLLAMATRACE_PRELOAD_DRAIN_UNDO_LOG_H_

// Changes of the journal that happen as one: the undo log of formats/journal_layout.h.
//
// What a SIGKILL leaves in the mapping is a prefix of the stores in program order: the kernel stops
// a thread between two instructions, and what had retired is in memory. So only the compiler may
// not reorder here; a reader of a living process's journal, on another CPU, is served by the
// sequence around the batch, for which the stores are releases (free of charge on x86-64).

#include <atomic>
#include <cstdint>
#include <cstring>

#include "preload/journal/journal.h"

namespace ollamatrace {

#ifdef OLLAMATRACE_DRAIN_STEPS
// Built for crash_test: called after each store to the journal.
void DrainStep();
#else
inline void DrainStep() {}
#endif

// Nothing moves over this line: not in the compiler, nor (stores) in the CPU.
inline void StoreBarrier() {
#if defined(__aarch64__)
  __asm__ volatile("dmb ishst" ::: "memory");
#else
  __asm__ volatile("" ::: "memory");
#endif
}

// A word of the journal that was logged, or that nothing refers to yet.
template <typename T>
inline void StoreWord(T* place, T value) {
  *place = value;
#ifdef OLLAMATRACE_DRAIN_STEPS
  StoreBarrier();
  DrainStep();
#endif
}

class UndoLog {
 public:
  void Init(Journal* journal) {
    base_ = journal->base;
    header_ = journal->header();
    words_ = journal->undo();
  }

  bool open() const { return open_; }
  uint32_t used() const { return used_; }

  void Begin() {
    open_ = true;
    used_ = 0;
    header_->commit_sequence.store(header_->commit_sequence.load(std::memory_order_relaxed) + 1,
                                   std::memory_order_relaxed);
    StoreBarrier();
    DrainStep();
  }

  // To be called before the words are changed for the first time in a batch; again does no harm.
  void Push(const void* place, uint32_t words) {
    uint64_t* top = words_ + used_;
    memcpy(top, place, words * sizeof(uint64_t));
    top[words] = UndoMark(static_cast<uint64_t>(static_cast<const uint8_t*>(place) - base_), words);
    StoreBarrier();
    DrainStep();
    used_ += words + 1;
    header_->undo_count.store(used_, std::memory_order_release);
    StoreBarrier();
    DrainStep();
  }

  void Commit() {
    header_->undo_count.store(0, std::memory_order_release);
    DrainStep();
    header_->commit_sequence.store(header_->commit_sequence.load(std::memory_order_relaxed) + 1,
                                   std::memory_order_release);
    DrainStep();
    used_ = 0;
    open_ = false;
  }

 private:
  uint8_t* base_;
  JournalHeader* header_;
  uint64_t* words_;
  uint32_t used_;
  bool open_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_UNDO_LOG_H_
