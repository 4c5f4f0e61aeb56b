#ifndef OLLAMATRACE_PRELOAD_HOOKS_SAMPLING_H_
#define OLLAMATRACE_PRELOAD_HOOKS_SAMPLING_H_

// Mode sample, in the hooks: which allocations are recorded, and which frees are theirs.
//
// The hooks ask ...NeedsNoRecord first. Where it says yes they call the real function and that is
// all: no guard, no look at the gate, no frame. It says no for calls that may have to be recorded,
// now and then for housekeeping (the drain's thread is to be started), and always where sampling
// does not run: in other modes, before the session begins, after fork, in work of ours. Then
// everything goes its usual way, and RecordAlloc and its like ask TakeSample and DropSample.
//
// Mappings are few, and each may replace others: they are recorded, every one.

#include <cstddef>
#include <cstdint>

#include "preload/capture/sampled_blocks.h"
#include "preload/session/thread.h"

namespace ollamatrace {

extern __attribute__((visibility("hidden"))) SampledBlocks g_sampled_blocks;

inline bool AllocNeedsNoRecord(size_t size) {
  return __builtin_expect(t_thread.sampler.Passes(size), 1);
}
// nullptr, too.
inline bool FreeNeedsNoRecord(const void* block) {
  return __builtin_expect(t_thread.sampler.running() && !g_sampled_blocks.MayContain(block), 1);
}

// ---- The session's part

// Before the gate opens. `sample_bytes` 0: not in this mode. False: no memory.
bool StartSampling(uint64_t sample_bytes);
// In a fork child, where no thread but the caller exists: its first call goes the slow way, and no
// block of the parent's is a drawn one.
void ForgetSampling();

// ---- The recording code's part. The guard is up.

extern __attribute__((visibility("hidden"))) uint64_t g_sample_bytes;  // 0: every block is recorded
inline bool Sampling() { return __builtin_expect(g_sample_bytes != 0, 0); }

// Whether the thread has done nothing yet, or the drain's thread is still to be started.
bool IsYoung();
// Whether a block that was just allocated is to be recorded; its free will be then.
bool TakeSample(const void* block, size_t size);
// Whether a block that is about to be freed was recorded. It counts as freed then.
bool DropSample(const void* block);
// The block that DropSample said yes to lives on. False: its free is to be recorded all the same.
bool KeepSample(const void* block);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_HOOKS_SAMPLING_H_
