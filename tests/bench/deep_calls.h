// Allocations below call stacks of an exact depth and a chosen shape: what the benchmarks are made
// of.
#ifndef OLLAMATRACE_TESTS_BENCH_DEEP_CALLS_H_
#define OLLAMATRACE_TESTS_BENCH_DEEP_CALLS_H_

#include <cstddef>
#include <cstdint>

namespace ollamatrace::bench {

// The outermost of `below` + 1 frames and an innermost one that calls malloc(size). Bit 0 of `path`
// says which function the next frame is of, bit 1 the one after it.
void* FrameA(uint64_t path, int below, size_t size);
void* FrameB(uint64_t path, int below, size_t size);

// Calls malloc(size) below `depth` frames of this file and an innermost one, from the caller's own
// frame. Each of these frames is one of two functions: bit i of `path` says which, counted from the
// outermost; bit `depth` says it of the innermost. So there are depth + 1 choices, and 2^(depth +
// 1) stacks.
//
// The functions have no frame pointers: their frames are found by their call frame information, as
// those of a distribution's programs. Thread safe. `depth` is 1 at least and 62 at most.
[[gnu::always_inline]] inline void* AllocateBelow(uint64_t path, int depth, size_t size) {
  return (path & 1) != 0 ? FrameB(path >> 1, depth - 1, size) : FrameA(path >> 1, depth - 1, size);
}

// Which of a program's stacks differ where.
enum class Shape {
  kEveryFrame,  // Stacks branch at every depth: two in a row share two frames in the mean.
  kInnerTen,    // Only the inner ten frames differ; 1024 stacks at most.
};

// The path of stack `number`. Two numbers below 2^(depth + 1) (kEveryFrame) or 1024 (kInnerTen)
// never have the same one. 1024 <= 2^(depth + 1).
uint64_t PathOfStack(uint64_t number, int depth, Shape shape);

}  // namespace ollamatrace::bench

#endif  // OLLAMATRACE_TESTS_BENCH_DEEP_CALLS_H_
