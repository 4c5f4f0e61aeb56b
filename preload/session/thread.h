#ifndef OLLAMATRACE_PRELOAD_SESSION_THREAD_H_
#define OLLAMATRACE_PRELOAD_SESSION_THREAD_H_

// What the library knows of a thread: its guard against recursion, its ring, its last stack.

#include <cstddef>
#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/base/event_clock.h"
#include "preload/base/signal_block.h"
#include "preload/capture/poisson_sampler.h"
#include "preload/capture/stack_table.h"
#include "preload/capture/unwinder.h"

namespace ollamatrace {

// Lies in memory of its own, kept for the next thread that gets the same ring.
struct alignas(64) ThreadState {
  RingEntry* ring;
  Event* events;
  uint32_t ring_index;
  uint32_t capacity;  // of the ring, a power of two
  uint64_t released;  // the drain's `released` when it was last looked at
  uint32_t destructor_rounds;
  bool drain_due;  // the drain's thread is to be started, at the next allocation
  EventClock clock;
  StackMemo memo;
  uintptr_t pcs[kMaxStackDepth];
  alignas(64) uint8_t unwind_cache[capture::kThreadUnwindCacheBytes];
};

enum Guard : uint32_t {
  kIdle = 0,
  kInReal,     // in the allocator, or the kernel
  kRecording,  // in the code that records a call
  kOwnWork,    // in work of ours that may allocate: starting, attaching. Not to be recorded
};

// Static TLS is scarce: this is all of it.
struct ThreadLocal {
  ThreadState* state;     // nullptr: not attached
  uintptr_t guard_frame;  // of the hook that put the guard up
  volatile uint32_t guard;
  PoissonSampler sampler;  // mode sample
};
extern __thread ThreadLocal t_thread
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

// Around work of ours outside the hot path: calls that it makes are not recorded, and no signal
// handler can leave it by siglongjmp.
class OwnWork {
 public:
  OwnWork() : saved_(t_thread.guard), saved_sampler_(t_thread.sampler.Pause()) {
    t_thread.guard = kOwnWork;
  }
  ~OwnWork() {
    t_thread.sampler.Resume(saved_sampler_);
    t_thread.guard = saved_;
  }
  OwnWork(const OwnWork&) = delete;
  OwnWork& operator=(const OwnWork&) = delete;

 private:
  const SignalBlock no_signals_;
  uint32_t saved_;
  uint64_t saved_sampler_;
};

// Gives the calling thread a ring. nullptr, and a loss is counted, when there is none. Keeps errno.
// The guard is up.
ThreadState* AttachThread();

// Whether the hook that put the guard up on this thread was left by longjmp: `frame` is that of a
// hook called now.
bool GuardIsAbandoned(uintptr_t frame);

// Once for each process that starts by exec: what tells us that a thread ends.
void InitThreads();
// In a fork child: no thread but the caller exists.
void ForgetThreads();
// Hands back rings whose threads ended without a word. Called by the drain's thread, now and then.
void ReclaimDeadThreads();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_SESSION_THREAD_H_
