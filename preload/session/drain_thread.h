#ifndef OLLAMATRACE_PRELOAD_SESSION_DRAIN_THREAD_H_
#define OLLAMATRACE_PRELOAD_SESSION_DRAIN_THREAD_H_

// The thread that drains the rings and samples the process's memory. It is started when there is
// something to do for it, blocks all signals, and takes no lock of the target's or the dynamic
// linker's but malloc's (mallinfo2), which fork knows to handle.

#include <cstdint>

namespace ollamatrace {

// For producers that wait: what DrainProgress answered before the look that found no room goes to
// WaitForDrain, which returns when it has changed, or after `timeout_ns`: longer
// where many wait.
uint32_t DrainProgress();
void WaitForDrain(uint32_t seen, uint64_t timeout_ns);
void WakeProducers();

// Has the drain's thread call FinishSession and waits for it. False when there is no such thread.
bool FinishOnDrainThread();
// A last sample, for FinishSession.
void TakeFinalSample();

// In a fork child.
void ForgetDrainThread();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_SESSION_DRAIN_THREAD_H_
