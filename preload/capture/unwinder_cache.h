#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_CACHE_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_CACHE_H_

// What a thread remembers between walks: the layout of ThreadUnwindCache. All-zero bytes are an
// empty cache.

#include <cstdint>

#include "preload/capture/stack_shape.h"
#include "preload/capture/unwinder.h"
#include "preload/capture/unwinder_rules.h"

namespace ollamatrace::capture {

// Memory known to be readable: whole pages around what was read of a stack so far.
struct StackBounds {
  uintptr_t low = 0;
  uintptr_t high = 0;

  bool Holds(uintptr_t address) const {  // an aligned word
    return (address & 7) == 0 && address >= low && address < high;
  }
};

// A walk meets more than one stack when a signal handler has its own, or when Go code called C: four
// when C called Go back, which called C.
inline constexpr int kMaxStacks = 5;

// A word of a stack that a walk read, and what it held.
struct Check {
  const uintptr_t* address;
  uintptr_t value;
};

struct Frame {
  uintptr_t pc;  // as it is reported: with kExactPc
  uintptr_t sp;
  uintptr_t bp;
  uint32_t first_check;  // of those that the step to the next frame read; they end where its begin
  bool exact;            // `pc` was interrupted here, it is no return address
  bool hidden;
  bool uses_bp;   // its step found the next frame by bp
  bool loads_bp;  // its step read a new bp: the last of its checks
};

// A remembered stack: frames [begin, end), innermost first, then a sentinel. There is room below
// `begin`, so that a stack whose inner frames changed need not be moved.
struct FrameZone {
  static constexpr int kFrames = 288;
  static constexpr int kFrameHeadroom = 32;
  static constexpr int kChecks = 2 * kFrames;
  static constexpr int kCheckHeadroom = 2 * kFrameHeadroom;
  static constexpr int kMaxChecksPerStep = 4;

  uint32_t begin;
  uint32_t end;
  uint32_t reported_end;  // the frame before it was the outermost one that the caller saw
  bool complete;    // the walk ended after these frames; if not, what follows them must be walked
  bool determined;  // the words checked, and nothing else, say that the walk ended there
  bool any_hidden;  // whether one of the frames may be hidden
  Frame frames[kFrames + 1];
  Check checks[kChecks];
};

struct ThreadUnwindCache {
  uintptr_t walking;  // address of the frame of the walk in progress, 0 when there is none
  uintptr_t thread;   // thread pointer of the thread that the rest is about
  uint32_t
      memory;  // what the last stack was found by: module generation and kind of walk; 0 for none
  uint32_t zone;  // index of the zone that holds the last stack
  uint32_t stack_count;
  StackBounds stacks[kMaxStacks];  // those of the last walk, in the order in which it met them
  RuleWorkspace workspace;
  FrameZone zones[2];
  StackShapeTable shapes;
};
static_assert(sizeof(ThreadUnwindCache) <= kThreadUnwindCacheBytes);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_CACHE_H_
