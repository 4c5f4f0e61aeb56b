#ifndef OLLAMATRACE_PRELOAD_BASE_SIGNAL_BLOCK_H_
#define OLLAMATRACE_PRELOAD_BASE_SIGNAL_BLOCK_H_

// While one exists, no signal handler runs on the calling thread. Around everything that holds a
// lock of ours: a handler may leave by siglongjmp, and the lock would be held for ever.

#include "preload/base/sys.h"

namespace ollamatrace {

class SignalBlock {
 public:
  SignalBlock() { blocked_ = sys::SigProcMask(0 /* SIG_BLOCK */, &kAllButLibcs, &saved_) == 0; }
  ~SignalBlock() {
    if (blocked_) sys::SigProcMask(2 /* SIG_SETMASK */, &saved_, nullptr);
  }
  SignalBlock(const SignalBlock&) = delete;
  SignalBlock& operator=(const SignalBlock&) = delete;

 private:
  // glibc's own, 32 and 33 (setuid in all threads, cancellation), must reach every thread, and a
  // thread that is created meanwhile inherits the mask.
  static constexpr uint64_t kAllButLibcs = ~(uint64_t{3} << 31);

  uint64_t saved_ = 0;
  bool blocked_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_BASE_SIGNAL_BLOCK_H_
