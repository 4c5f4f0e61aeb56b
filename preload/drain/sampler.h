#ifndef OLLAMATRACE_PRELOAD_DRAIN_SAMPLER_H_
#define OLLAMATRACE_PRELOAD_DRAIN_SAMPLER_H_

// Reads the process's gauges: memory by kind, threads, descriptors, the allocator's own figures.
//
// Each group of gauges costs at most about 1 % of one CPU: after it took t of CPU time it is left
// alone for 100 t, and samples in between have it unknown. (mallinfo2 walks the free lists with the
// arenas' locks held; counting descriptors takes a while when there are tens of thousands.)
//
// The two descriptors that are kept open are close-on-exec and above those that programs count on.
// Writes no errno of its own; allocates nothing.

#include <malloc.h>

#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"
#include "preload/drain/proc_file.h"

namespace ollamatrace {

// Plain data, constant initialized. One thread at a time.
struct SamplerContext {
  // glibc's; nullptr when the allocator is another. Called by TakeSample, on the caller's stack and
  // with no lock of ours held, unless the caller holds one.
  struct mallinfo2 (*mallinfo2)() = nullptr;
  const char* proc = "/proc/self";
  // More descriptors than this are not listed: open_files is then known where the kernel tells it
  // (Linux 6.2, proc(5)), sockets is unknown.
  uint32_t max_listed_files = 32768;

  // The sampler's own.
  ProcFile status;
  ProcFile descriptors;
  uint64_t status_due_ns = 0;
  uint64_t files_due_ns = 0;
  uint64_t allocator_due_ns = 0;
  alignas(8) char buffer[16384] = {};
};

// Fills in all gauges but pooled_* and tracer_*. Threads and open files include the tracer's own
// thread and files, but for the sampler's two.
void TakeSample(SamplerContext* context, SampleRecord* record);

// Closes what the sampler keeps open. In a fork child, before the context is used again: what was
// inherited tells the parent's figures.
void CloseSampler(SamplerContext* context);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_SAMPLER_H_
