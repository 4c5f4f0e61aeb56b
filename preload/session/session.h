#ifndef OLLAMATRACE_PRELOAD_SESSION_SESSION_H_
#define OLLAMATRACE_PRELOAD_SESSION_SESSION_H_

// What the library holds for the process it is in: settings, files, the table of stacks, the drain;
// when recording begins and ends; what fork does to it.
//
// One session is one process. It begins with the first call of a hook, at the latest when the
// library is loaded. A child of fork begins a session of its own with its first call: the gate
// (below) lies in memory that the kernel clears in the child, so that a fork which bypasses libc is
// noticed, too. A child of vfork shares the parent's memory and so, rightly, its session.

#include <atomic>
#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/base/lock.h"
#include "preload/base/sys.h"
#include "preload/capture/stack_table.h"
#include "preload/drain/drain.h"
#include "preload/journal/journal.h"
#include "preload/session/settings.h"

namespace ollamatrace {

enum class Phase : uint32_t {
  kUnstarted = 0,  // the first call is still to come
  kStarting,
  kRecording,
  kOff,  // not to be traced, stopped, or finished: calls are merely forwarded
};

struct Session {
  std::atomic<Phase> phase{Phase::kUnstarted};
  Settings settings;
  Journal journal;
  OwnFile trace;
  StackTable stacks;
  Drain* drain = nullptr;
  FutexLock drain_lock;        // around every call of Drain...
  FutexLock definitions_lock;  // appending to the definitions ring
  // From then on the first allocation or mapping starts the drain's thread, so that a process which
  // makes few is sampled, too. Most processes end sooner, and some must not have threads yet.
  std::atomic<uint64_t> drain_due_ticks{~uint64_t{0}};
  std::atomic<bool> stopped{false};  // before the end of the process: what comes is lost
  bool may_start_thread = true;      // false in a child of a fork that bypassed libc

  // The turn of the threads' clocks (event_clock.h): another one each time that the drain's thread
  // comes by, which it does every kClockNs or so; 0 when it does not.
  alignas(64) std::atomic<uint32_t> clock_turn{0};

  // Places in the order, by shard (see journal_layout.h).
  alignas(64) std::atomic<uint32_t> places[kShards];
};

inline constexpr uint64_t kClockNs = 500'000;

extern __attribute__((visibility("hidden"))) Session g_session;

// 1 while recording. Points at a word that reads 0 in a fork child.
extern __attribute__((visibility("hidden"))) std::atomic<uint32_t>* g_gate;
inline bool GateIsOpen() { return g_gate->load(std::memory_order_relaxed) != 0; }

// Begins or resumes recording where that is called for; whether it is on. The slow path of each
// hook: a few loads when it is off for good. The caller's guard is up (see thread.h).
bool EnsureRecording();

// Makes the trace whole at the end of the process, and removes the journal. Once.
void FinishSession();
// Ends recording for good, with a reason for the trace and the log. `error`: -errno or 0. Not under
// a lock of ours.
void StopRecording(const char* reason, long error);
// The same when a call of the drain answered kFailed.
void StopFailedRecording();

// Appends an encoded record to the journal's definitions. Waits for the drain when there is no
// room.
void DefineRecord(const uint8_t* record, size_t size);
// A message in the trace.
void RecordMessage(const char* text);
// False in a child of vfork, which shares all memory but not its end. A system call.
inline bool InOwnProcess() {
  return static_cast<uint32_t>(sys::Getpid()) == g_session.journal.header()->pid;
}
inline void CountLoss(LossKind kind, uint64_t events = 1) {
  if (g_session.journal.base == nullptr) return;
  g_session.journal.header()->losses[static_cast<int>(kind)].fetch_add(events,
                                                                       std::memory_order_relaxed);
}

// Makes room in `ring`: waits until the drain's thread has, or drains where there is none. False
// when recording ended.
bool Relieve(RingEntry* ring, uint32_t ring_index);
// Some progress of the drain, for whoever waits for something else: a free ring, room for
// definitions.
void RelieveAny();
// Told now and then by the producers: `pressing` when a ring is half full. Wakes the drain's
// thread; false when there is none yet.
bool DrainHint(bool pressing);
// Starts the drain's thread where there is none and may be one. Not inside free: glibc calls that
// under a lock that pthread_create takes.
void StartDrainThread();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_SESSION_SESSION_H_
