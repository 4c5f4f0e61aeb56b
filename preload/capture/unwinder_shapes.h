#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_SHAPES_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_SHAPES_H_

// The shapes of a thread's stacks (stack_shape.h): made from what a walk recorded, and looked up
// before the next one.

#include "preload/capture/unwinder_cache.h"

namespace ollamatrace::capture {

// After a walk from `start` that is in the cache's current zone: keeps its shape and answers its
// fingerprint. 0 when it has none: it is too deep, leads over several stacks, or depends on more
// than its words. The walk was one of at most `max` frames.
uint64_t RememberShape(ThreadUnwindCache* cache, const CallerFrame& start, int max);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_SHAPES_H_
