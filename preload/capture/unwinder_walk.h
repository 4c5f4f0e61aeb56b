#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_WALK_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_WALK_H_

// The walks behind Unwind. Same contract; `max` is at least 1.

#include "preload/capture/unwinder_cache.h"

namespace ollamatrace::capture {

// By rules from CFI, or by frame pointers alone. `cache` may be null: nothing is remembered then.
UnwindResult WalkByRules(ThreadUnwindCache* cache, const CallerFrame& start, uintptr_t* pcs,
                         int max, bool frame_pointers_only);

#if defined(__x86_64__)
// The slow one, for stacks on which some frame needs other registers than sp and bp: begins in
// its own frame, where all are known, and runs each frame's CFI. Microseconds a frame.
int WalkByAllRegisters(RuleWorkspace* workspace, const CallerFrame& start, uintptr_t* pcs, int max);
#endif

// Makes `bounds` hold the pages around `sp`, which is in use. False when it was another stack,
// whose bounds are forgotten; `bounds` is empty when sp cannot be read.
bool EnterStack(StackBounds* bounds, uintptr_t sp);

// Makes `bounds` hold the word at `address`, which lies above them by no more than `reach`, or in
// the page below them (a function that is about to return has popped registers which its CFI still
// finds where they were). False when something between cannot be read.
bool ExtendStack(StackBounds* bounds, uintptr_t address, uintptr_t reach);

// How far a frame may reach: of a function with CFI, and of one that is guessed by frame pointer.
inline constexpr uintptr_t kMaxFrameBytes = uintptr_t{16} << 20;
inline constexpr uintptr_t kMaxGuessedFrameBytes = uintptr_t{1} << 20;

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_WALK_H_
