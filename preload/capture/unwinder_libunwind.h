#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_LIBUNWIND_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_LIBUNWIND_H_

// The second opinion: unw_backtrace(3) of the libunwind that is installed, loaded so that its
// symbols
// (_Unwind_*, backtrace) take over nothing of the target's. It uses some KiB of stack, asks
// dl_iterate_phdr, and maps memory of its own: none of the promises of unwinder.h hold with it.

#include "preload/capture/unwinder.h"

namespace ollamatrace::capture {

// Loads it. False when there is none.
bool LoadLibunwind();

// As Unwind, after LoadLibunwind. Depth 0 when libunwind does not come by `start`.
UnwindResult WalkByLibunwind(ThreadUnwindCache* cache, const CallerFrame& start, uintptr_t* pcs,
                             int max);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_LIBUNWIND_H_
