#include "tests/bench/deep_calls.h"

#include <cstdlib>

// Each function stays one of its own, and each call has its frame: no inlining, cloning or merging
// (noipa), no tail call (the empty asm comes after the call).
#define BENCH_FRAME [[gnu::noipa]]
#define BENCH_STAY() __asm__ volatile("" ::: "memory")

namespace ollamatrace::bench {
namespace {

BENCH_FRAME void* InnermostA(size_t size) {
  void* block = malloc(size);
  BENCH_STAY();
  return block;
}

BENCH_FRAME void* InnermostB(size_t size) {
  void* block = malloc(size);
  BENCH_STAY();
  return block;
}

}  // namespace

// The call of the next frame, written out in both functions.
#define BENCH_NEXT_FRAME()                                                                         \
  void* block;                                                                                     \
  if (below == 0) {                                                                                \
    block = (path & 1) != 0 ? InnermostB(size) : InnermostA(size);                                 \
  } else {                                                                                         \
    block =                                                                                        \
        (path & 1) != 0 ? FrameB(path >> 1, below - 1, size) : FrameA(path >> 1, below - 1, size); \
  }                                                                                                \
  BENCH_STAY();                                                                                    \
  return block

BENCH_FRAME void* FrameA(uint64_t path, int below, size_t size) { BENCH_NEXT_FRAME(); }
BENCH_FRAME void* FrameB(uint64_t path, int below, size_t size) { BENCH_NEXT_FRAME(); }

uint64_t PathOfStack(uint64_t number, int depth, Shape shape) {
  const int choices = depth + 1;
  if (shape == Shape::kInnerTen) return number << (choices - 10);
  // A bijection of `choices` bits: odd factors and a shift to the right can be undone.
  const uint64_t mask = (uint64_t{1} << choices) - 1;
  uint64_t path = number * 0x9E3779B97F4A7C15 & mask;
  path ^= path >> (choices / 2);
  path = path * 0xD6E8FEB86659FD93 & mask;
  path ^= path >> (choices / 2);
  return path;
}

}  // namespace ollamatrace::bench
