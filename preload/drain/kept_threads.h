#ifndef OLLAMATRACE_PRELOAD_DRAIN_KEPT_THREADS_H_
#define OLLAMATRACE_PRELOAD_DRAIN_KEPT_THREADS_H_

// Definitions of threads on their way into a checkpoint: of those that live, that ended a short
// while ago (blocks of theirs may be held still), and that a live block names.

#include <cstdint>
#include <cstring>

#include "formats/encode.h"

namespace ollamatrace {

class KeptThreads {
 public:
  // More than there can be at a time (kMaxRings) and then some; of the others the names are lost.
  static constexpr uint32_t kMaxThreads = 16u << 10;
  struct Thread {
    uint32_t id;  // 0: free
    uint8_t size;
    uint8_t written;
    uint64_t end_ns;  // 0: it lives
    uint8_t record[kThreadBytes];
  };

  // Zeroed memory for kMaxThreads.
  void Init(Thread* threads) {
    threads_ = threads;
    count_ = 0;
  }

  // nullptr: not known.
  Thread* Find(uint32_t id) {
    for (uint32_t i = id % kMaxThreads;; i = (i + 1) % kMaxThreads) {
      if (threads_[i].id == id) return &threads_[i];
      if (threads_[i].id == 0) return nullptr;
    }
  }
  // An encoded Thread record: the first one of a thread, or one with a new name.
  void Define(uint32_t id, const uint8_t* record, size_t size) {
    Thread* const thread = FindOrAdd(id);
    if (thread == nullptr || size > sizeof thread->record) return;
    memcpy(thread->record, record, size);
    thread->size = static_cast<uint8_t>(size);
  }
  // The definition from an older file: where there is no newer one.
  void DefineOld(uint32_t id, const uint8_t* record, size_t size) {
    const Thread* const known = Find(id);
    if (known == nullptr || known->size == 0) Define(id, record, size);
  }
  void End(uint32_t id, uint64_t time_ns) {
    Thread* const thread = FindOrAdd(id);
    if (thread != nullptr) thread->end_ns = time_ns != 0 ? time_ns : 1;
  }

  // By place; id 0 where there is none.
  Thread* thread(uint32_t place) { return &threads_[place]; }

 private:
  Thread* FindOrAdd(uint32_t id) {
    if (id == 0) return nullptr;
    // One place stays free, where Find ends.
    for (uint32_t i = id % kMaxThreads;; i = (i + 1) % kMaxThreads) {
      if (threads_[i].id == id) return &threads_[i];
      if (threads_[i].id != 0) continue;
      if (count_ == kMaxThreads - 1) break;
      ++count_;
      threads_[i].id = id;
      return &threads_[i];
    }
    // Whoever ended has to go.
    for (uint32_t i = id % kMaxThreads, n = 0; n < kMaxThreads; i = (i + 1) % kMaxThreads, ++n) {
      if (threads_[i].id == 0 || threads_[i].end_ns == 0) continue;
      Remove(i);
      return FindOrAdd(id);
    }
    return nullptr;
  }
  // Open addressing: what comes behind moves up.
  void Remove(uint32_t hole) {
    uint32_t i = hole;
    while (true) {
      i = (i + 1) % kMaxThreads;
      if (threads_[i].id == 0) break;
      const uint32_t home = threads_[i].id % kMaxThreads;
      const uint32_t from_home = (i + kMaxThreads - home) % kMaxThreads;
      const uint32_t from_hole = (i + kMaxThreads - hole) % kMaxThreads;
      if (from_home < from_hole) continue;
      threads_[hole] = threads_[i];
      hole = i;
    }
    threads_[hole] = {};
    --count_;
  }

  Thread* threads_;
  uint32_t count_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_KEPT_THREADS_H_
