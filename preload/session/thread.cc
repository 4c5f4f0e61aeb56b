#include "preload/session/thread.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>

#include "formats/encode.h"
#include "preload/base/clock.h"
#include "preload/base/own_memory.h"
#include "preload/base/sys.h"
#include "preload/session/session.h"

namespace ollamatrace {

__thread ThreadLocal t_thread __attribute__((tls_model("initial-exec")));

namespace {

// By ring. Mapped when a ring is first used.
std::atomic<ThreadState*> g_states[kMaxRings];
pthread_key_t g_key;
bool g_has_key = false;

// Attempts to get a ring before the thread's calls go unrecorded.
constexpr int kAttachTries = 200;
// When there was none, so many calls of threads without one are lost before the next attempt, which
// does not wait: a target with more threads than rings must not crawl.
constexpr int kCallsBetweenTries = 200;
std::atomic<bool> g_out_of_rings{false};
std::atomic<int> g_calls_to_skip{0};

void OnThreadExit(void* argument) {
  auto* state = static_cast<ThreadState*>(argument);
  if (state != t_thread.state) return;  // a fork child's only thread, of the parent's time
  // Other destructors may still free memory: the last round that glibc makes is ours.
  if (++state->destructor_rounds < PTHREAD_DESTRUCTOR_ITERATIONS) {
    const OwnWork own;
    if (pthread_setspecific(g_key, state) == 0) return;
  }
  t_thread.state = nullptr;
  state->ring->pending_shard.store(0, std::memory_order_release);
  state->ring->state.store(static_cast<uint32_t>(RingState::kOrphaned), std::memory_order_release);
}

// A free ring, now attached; kMaxRings when there is none.
uint32_t TakeRing(JournalHeader* header) {
  const auto free_state = static_cast<uint32_t>(RingState::kFree);
  for (uint32_t index = 0; index < kMaxRings; ++index) {
    RingEntry* ring = g_session.journal.ring(index);
    const uint32_t used = header->rings_used.load(std::memory_order_acquire);
    if (index >= used) {
      if (!ReserveJournal(&g_session.journal, kRingsOffset + index * sizeof(RingEntry),
                          sizeof(RingEntry)) ||
          !ReserveJournal(&g_session.journal, RingDataOffset(index),
                          RingCapacity(index) * sizeof(Event))) {
        return kMaxRings;
      }
    }
    if (ring->state.load(std::memory_order_relaxed) != free_state) continue;
    uint32_t expected = free_state;
    if (!ring->state.compare_exchange_strong(expected, static_cast<uint32_t>(RingState::kAttached),
                                             std::memory_order_acq_rel)) {
      continue;
    }
    uint32_t known = header->rings_used.load(std::memory_order_relaxed);
    while (known <= index &&
           !header->rings_used.compare_exchange_weak(known, index + 1, std::memory_order_acq_rel)) {
    }
    return index;
  }
  return kMaxRings;
}

ThreadState* StateOf(uint32_t index) {
  ThreadState* state = g_states[index].load(std::memory_order_acquire);
  if (state == nullptr) {
    state = static_cast<ThreadState*>(MapOwn(sizeof(ThreadState), MAP_NORESERVE));
    if (state == nullptr) return nullptr;
    g_states[index].store(state, std::memory_order_release);
  }
  return state;
}

void DefineThread(const RingEntry& ring) {
  char name[16] = {};
  sys::Call(__NR_prctl, 16 /* PR_GET_NAME */, sys::Arg(name));
  size_t length = 0;
  while (length < sizeof name && name[length] != '\0') ++length;
  ThreadRecord record;
  record.id = ThreadId{ring.thread};
  record.time_ns = MonotonicNs();
  record.tid = ring.tid;
  record.name = {name, length};
  uint8_t encoded[kThreadBytes];
  DefineRecord(encoded, EncodeThread(record, encoded));
}

}  // namespace

void InitThreads() { g_has_key = pthread_key_create(&g_key, OnThreadExit) == 0; }

void ForgetThreads() {
  for (auto& entry : g_states) {
    ThreadState* state = entry.load(std::memory_order_relaxed);
    if (state == nullptr) continue;
    sys::Munmap(state, sizeof(ThreadState));
    entry.store(nullptr, std::memory_order_relaxed);
  }
  t_thread.state = nullptr;
  g_out_of_rings.store(false, std::memory_order_relaxed);
  g_calls_to_skip.store(0, std::memory_order_relaxed);
}

ThreadState* AttachThread() {
  if (g_calls_to_skip.load(std::memory_order_relaxed) > 0) {
    g_calls_to_skip.fetch_sub(1, std::memory_order_relaxed);
    CountLoss(LossKind::kNoThreadState);
    return nullptr;
  }
  const int saved_errno = errno;
  const OwnWork own;
  JournalHeader* header = g_session.journal.header();
  uint32_t index = kMaxRings;
  for (int i = 0; i < kAttachTries && GateIsOpen(); ++i) {
    index = TakeRing(header);
    if (index != kMaxRings || g_out_of_rings.load(std::memory_order_relaxed)) break;
    RelieveAny();
  }
  if (GateIsOpen()) {
    g_out_of_rings.store(index == kMaxRings, std::memory_order_relaxed);
    g_calls_to_skip.store(index == kMaxRings ? kCallsBetweenTries : 0, std::memory_order_relaxed);
  }
  ThreadState* state = index == kMaxRings ? nullptr : StateOf(index);
  if (state == nullptr) {
    if (index != kMaxRings) {
      g_session.journal.ring(index)->state.store(static_cast<uint32_t>(RingState::kFree),
                                                 std::memory_order_release);
    }
    CountLoss(LossKind::kNoThreadState);
    errno = saved_errno;
    return nullptr;
  }
  RingEntry* ring = g_session.journal.ring(index);
  ring->thread = header->next_thread.fetch_add(1, std::memory_order_relaxed);
  // The thread of a child of vfork is gone before the one that it stands in for.
  ring->tid = InOwnProcess() ? static_cast<uint32_t>(sys::Gettid()) : 0;
  ring->pending_shard.store(0, std::memory_order_relaxed);
  DefineThread(*ring);
  state->ring = ring;
  state->events = g_session.journal.ring_events(index);
  state->ring_index = index;
  state->capacity = RingCapacity(index);
  state->released = ring->released.load(std::memory_order_acquire);
  state->destructor_rounds = 0;
  // Where there are threads, one more is no surprise.
  state->drain_due = ring->thread > 1 && !DrainHint(false);
  state->clock = {};
  state->memo.generation = 0;
  t_thread.state = state;
  if (g_has_key) pthread_setspecific(g_key, state);
  errno = saved_errno;
  return state;
}

bool GuardIsAbandoned(uintptr_t frame) {
  if (t_thread.guard == kOwnWork || frame <= t_thread.guard_frame) return false;
  // Above the hook's frame: it was left, or this is a handler on a stack of its own.
  stack_t alternate;
  if (sys::Failed(sys::Call(__NR_sigaltstack, 0, sys::Arg(&alternate)))) return false;
  return (alternate.ss_flags & SS_ONSTACK) == 0;
}

void ReclaimDeadThreads() {
  const int pid = sys::Getpid();
  const uint32_t used = g_session.journal.header()->rings_used.load(std::memory_order_acquire);
  for (uint32_t index = 0; index < used; ++index) {
    RingEntry* ring = g_session.journal.ring(index);
    auto attached = static_cast<uint32_t>(RingState::kAttached);
    if (ring->state.load(std::memory_order_acquire) != attached || ring->tid == 0) continue;
    const uint32_t tid = ring->tid;
    if (sys::Tgkill(pid, static_cast<int>(tid), 0) != -ESRCH) continue;
    ring->state.compare_exchange_strong(attached, static_cast<uint32_t>(RingState::kOrphaned),
                                        std::memory_order_acq_rel);
  }
}

}  // namespace ollamatrace
