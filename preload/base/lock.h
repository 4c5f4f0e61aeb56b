#ifndef OLLAMATRACE_PRELOAD_BASE_LOCK_H_
#define OLLAMATRACE_PRELOAD_BASE_LOCK_H_

// A mutual-exclusion lock on one futex word, usable from static storage without construction. It
// does not know its owner: never lock it twice, and never hold it over a call into the target or
// libc.

#include <atomic>
#include <cstdint>

#include "preload/base/sys.h"

namespace ollamatrace {

class FutexLock {
 public:
  constexpr FutexLock() = default;
  FutexLock(const FutexLock&) = delete;
  FutexLock& operator=(const FutexLock&) = delete;

  bool TryLock() {
    uint32_t expected = kFree;
    return word_.compare_exchange_strong(expected, kHeld, std::memory_order_acquire,
                                         std::memory_order_relaxed);
  }
  void Lock() {
    if (!TryLock()) LockSlow(nullptr);
  }
  // False when the lock was not to be had within about `nanoseconds`.
  bool LockFor(uint64_t nanoseconds) {
    if (TryLock()) return true;
    const struct timespec timeout = {static_cast<time_t>(nanoseconds / 1000000000),
                                     static_cast<long>(nanoseconds % 1000000000)};
    return LockSlow(&timeout);
  }
  void Unlock() {
    if (word_.exchange(kFree, std::memory_order_release) == kContended) sys::FutexWake(&word_, 1);
  }
  bool IsLocked() const { return word_.load(std::memory_order_relaxed) != kFree; }
  // In a fork child only: whoever held it does not exist here.
  void Reset() { word_.store(kFree, std::memory_order_relaxed); }

 private:
  static constexpr uint32_t kFree = 0, kHeld = 1, kContended = 2;

  __attribute__((noinline)) bool LockSlow(const struct timespec* timeout) {
    for (int spin = 0; spin < 64; ++spin) {
      if (word_.load(std::memory_order_relaxed) == kFree && TryLock()) return true;
#if defined(__x86_64__)
      __builtin_ia32_pause();
#endif
    }
    while (word_.exchange(kContended, std::memory_order_acquire) != kFree) {
      if (sys::FutexWait(&word_, kContended, timeout) == -110 /* ETIMEDOUT */) return TryLock();
    }
    return true;
  }

  std::atomic<uint32_t> word_{kFree};
};

class FutexLockHolder {
 public:
  explicit FutexLockHolder(FutexLock* lock) : lock_(lock) { lock_->Lock(); }
  ~FutexLockHolder() { lock_->Unlock(); }
  FutexLockHolder(const FutexLockHolder&) = delete;
  FutexLockHolder& operator=(const FutexLockHolder&) = delete;

 private:
  FutexLock* lock_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_BASE_LOCK_H_
