#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_SHAPES_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_SHAPES_H_

// The shapes of a thread's stacks (stack_shape.h): made from what a walk recorded, and looked up
// before the next one.

#include "preload/capture/unwinder_cache.h"
#include "preload/capture/unwinder_modules.h"

namespace ollamatrace::capture {

// After a walk from `start` that is in the cache's current zone: keeps its shape and answers its
// fingerprint. 0 when it has none: it is too deep, leads over several stacks, or depends on more
// than its words. The walk was one of at most `max` frames.
uint64_t RememberShape(ThreadUnwindCache* cache, const CallerFrame& start, int max);

// By what kind of walk a stack was found: of which modules, by which rules, of how many frames.
inline uint32_t WalkKind(const ThreadUnwindCache& cache, int max) {
  return cache.memory * 2654435761u ^ static_cast<uint32_t>(max);
}

// A shape that the stack may have, nullptr: none. `way`: below StackShapeTable::kWays; there may be
// several for a place. Its Fingerprint is a number that tells stacks apart, without a walk: if
// Unwind once gave it with a stack, it would give the same stack now (UnwindResult::fingerprint).
// Any thread's cache gives the same number for the same stack; two stacks share one by accident of
// 64 bits only. The promises of Unwind hold.
inline StackShape* FindShape(ThreadUnwindCache* cache, const CallerFrame& start, int max, int way) {
  StackShape* const shape = cache->shapes.Find(start.pc, start.sp, way);
  if (shape == nullptr) return nullptr;
  const StackBounds& bounds = cache->stacks[0];
  const bool usable =
      cache->walking == 0 &&  // else this is a handler, and the cache is being changed
      cache->thread == reinterpret_cast<uintptr_t>(__builtin_thread_pointer()) &&
      cache->stack_count != 0 && (cache->memory & 0xffff) == ModuleGeneration() &&
      shape->walk == WalkKind(*cache, max) && start.sp - 8 >= bounds.low &&
      start.sp + shape->reach <= bounds.high && start.sp < bounds.high;
  return usable ? shape : nullptr;
}

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_SHAPES_H_
