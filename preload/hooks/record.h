#ifndef OLLAMATRACE_PRELOAD_HOOKS_RECORD_H_
#define OLLAMATRACE_PRELOAD_HOOKS_RECORD_H_

// The hot path: from a hook to the thread's ring. No lock, no allocation of ours; no system call
// but a wake-up of the drain each half ring.
//
// Every hook that records has this shape (what precedes it in mode sample is in sampling.h):
//
//   if (OLLAMATRACE_ENTER()) {     // the guard is up: kInReal
//     call the real function
//     RecordAlloc(...)             // kRecording meanwhile
//     Leave();
//   } else { call the real function }

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/base/clock.h"
#include "preload/capture/unwinder.h"
#include "preload/session/session.h"
#include "preload/session/thread.h"

namespace ollamatrace {

// What a call is that comes while the guard is up.
enum class Nested {
  kLost,    // a signal handler's allocation: counted as lost
  kSilent,  // a mapping that the allocator made for itself
};

// The slow path of Enter: nested calls, the first call of a process, recording that is off.
bool EnterSlow(uintptr_t frame, Nested nested);

inline bool Enter(uintptr_t frame, Nested nested) {
  if (__builtin_expect(t_thread.guard != kIdle || !GateIsOpen(), 0)) {
    return EnterSlow(frame, nested);
  }
  t_thread.guard_frame = frame;
  t_thread.guard = kInReal;
  return true;
}
// A function that stands in front of another: visible to the program, and with a frame of its own.
#define OLLAMATRACE_HOOK extern "C" __attribute__((visibility("default"), noinline, aligned(64)))
#define OLLAMATRACE_FRAME() reinterpret_cast<uintptr_t>(__builtin_frame_address(0))
#define OLLAMATRACE_ENTER() ::ollamatrace::Enter(OLLAMATRACE_FRAME(), ::ollamatrace::Nested::kLost)
#define OLLAMATRACE_ENTER_MAPPING() \
  ::ollamatrace::Enter(OLLAMATRACE_FRAME(), ::ollamatrace::Nested::kSilent)

inline void Leave() { t_thread.guard = kIdle; }

// While it exists, the thread is in the recording code.
class Recording {
 public:
  Recording() { t_thread.guard = kRecording; }
  ~Recording() { t_thread.guard = kInReal; }
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
};

// The block that was allocated, with the hook's caller.
void RecordAlloc(const void* block, size_t size, AllocFunction function,
                 const capture::CallerFrame& caller);
// Before the real free.
void RecordFree(const void* block);
// Before the real realloc of a block, and after it. Whether there is a record of the old block
// (mode sample: maybe not) is to be handed on.
bool RecordReallocBegin(const void* old_block);
void RecordReallocEnd(bool recorded, const void* old_block, const void* block, size_t size,
                      const capture::CallerFrame& caller);

// A range that was mapped. `attributes` as EventKind::kMap has them.
void RecordMap(const void* address, size_t length, AllocFunction function, uint8_t attributes,
               const capture::CallerFrame& caller);
// Before the range is unmapped; and when that failed.
void RecordUnmap(const void* address, size_t length);
void RecordUnmapFailed(const void* address, size_t length);

// Of a GPU domain, recorded by another library (capture_api.h). The guard is up.
// The stack of `caller`, with a frame of no code at `place` inside of it.
uint32_t RecordPlacedStack(const capture::CallerFrame& caller, uint32_t place);
void RecordGpuAlloc(Domain domain, uint64_t address, uint64_t size, uint32_t stack);
void RecordGpuFree(Domain domain, uint64_t address);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_HOOKS_RECORD_H_
