// The malloc family. Each hook finds its caller itself, so that no frame of the library is walked.

#include <errno.h>
#include <string.h>

#include "preload/hooks/real.h"
#include "preload/hooks/record.h"
#include "preload/hooks/sampling.h"

namespace ollamatrace {
namespace {

// Where there is no function of that name: malloc's blocks are aligned to this.
constexpr size_t kMallocAlignment = 2 * sizeof(void*);
constexpr size_t kMaxOwnBlock = 16u << 10;

// What libc allocates for work of ours (the drain's thread, keys, the environment) does not come
// from the target's allocator either: its figures stay as they were. nullptr for all other calls.
void* OwnAllocate(size_t size) {
  if (__builtin_expect(t_thread.guard != kOwnWork || size > kMaxOwnBlock, 1)) return nullptr;
  const int saved_errno = errno;
  void* const block = BootstrapAllocate(size, kMallocAlignment);
  errno = saved_errno;
  return block;
}

void* RealMalloc(size_t size) {
  if (void* const own = OwnAllocate(size)) return own;
  auto* const real = Real(&RealFunctions::malloc);
  return real != nullptr ? real(size) : BootstrapAllocate(size, kMallocAlignment);
}

void* RealCalloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  if (void* const own = OwnAllocate(bytes)) return own;
  auto* const real = Real(&RealFunctions::calloc);
  if (real != nullptr) return real(count, size);
  return BootstrapAllocate(bytes, kMallocAlignment);  // the pool is zeros and never used twice
}

void RealFree(void* block) {
  if (IsBootstrap(block)) return;
  if (auto* const real = Real(&RealFunctions::free)) real(block);
}

// Of a block that is not a bootstrap block.
void* RealRealloc(void* block, size_t size) {
  auto* const real = Real(&RealFunctions::realloc);
  if (real != nullptr) return real(block, size);
  return block == nullptr ? BootstrapAllocate(size, kMallocAlignment) : nullptr;
}

// A bootstrap block moves to the real allocator.
void* ReallocBootstrap(void* block, size_t size) {
  if (size == 0) return nullptr;
  void* const moved = RealMalloc(size);
  if (moved == nullptr) return nullptr;
  const size_t old_size = BootstrapSize(block);
  memcpy(moved, block, old_size < size ? old_size : size);
  return moved;
}

void* RealMemalign(size_t alignment, size_t size) {
  if (auto* const real = Real(&RealFunctions::memalign)) return real(alignment, size);
  if (auto* const real = Real(&RealFunctions::aligned_alloc)) return real(alignment, size);
  return BootstrapAllocate(size, alignment);
}

void* RealAlignedAlloc(size_t alignment, size_t size) {
  auto* const real = Real(&RealFunctions::aligned_alloc);
  return real != nullptr ? real(alignment, size) : RealMemalign(alignment, size);
}

int RealPosixMemalign(void** result, size_t alignment, size_t size) {
  if (auto* const real = Real(&RealFunctions::posix_memalign)) {
    return real(result, alignment, size);
  }
  void* const block = RealMemalign(alignment, size);
  if (block == nullptr) return ENOMEM;
  *result = block;
  return 0;
}

void* RealValloc(size_t size) {
  auto* const real = Real(&RealFunctions::valloc);
  return real != nullptr ? real(size) : RealMemalign(4096, size);
}

void* RealPvalloc(size_t size) {
  auto* const real = Real(&RealFunctions::pvalloc);
  return real != nullptr ? real(size) : RealMemalign(4096, (size + 4095) & ~size_t{4095});
}

void RealFreeSized(void* block, size_t size) {
  if (IsBootstrap(block)) return;
  auto* const real = Real(&RealFunctions::free_sized);
  real != nullptr ? real(block, size) : RealFree(block);
}

void RealFreeAlignedSized(void* block, size_t alignment, size_t size) {
  if (IsBootstrap(block)) return;
  auto* const real = Real(&RealFunctions::free_aligned_sized);
  real != nullptr ? real(block, alignment, size) : RealFree(block);
}

// ---- The recorded way of each hook. Functions of their own, which the hooks below call last: so a
// hook that has nothing to record needs no frame, and one that has gives up its own. What these see
// as their caller is the hook's.

#define OLLAMATRACE_RECORDED __attribute__((noinline))

OLLAMATRACE_RECORDED void* RecordedMalloc(size_t size) {
  if (!OLLAMATRACE_ENTER()) return RealMalloc(size);
  void* const block = RealMalloc(size);
  if (block != nullptr)
    RecordAlloc(block, size, AllocFunction::kMalloc, OLLAMATRACE_CALLER_FRAME());
  Leave();
  return block;
}

OLLAMATRACE_RECORDED void* RecordedCalloc(size_t count, size_t size) {
  if (!OLLAMATRACE_ENTER()) return RealCalloc(count, size);
  void* const block = RealCalloc(count, size);
  if (block != nullptr) {
    RecordAlloc(block, count * size, AllocFunction::kCalloc, OLLAMATRACE_CALLER_FRAME());
  }
  Leave();
  return block;
}

OLLAMATRACE_RECORDED void* RecordedRealloc(void* old_block, size_t size) {
  if (__builtin_expect(IsBootstrap(old_block), 0)) {
    if (!OLLAMATRACE_ENTER()) return ReallocBootstrap(old_block, size);
    void* const moved = ReallocBootstrap(old_block, size);
    if (moved != nullptr) {
      RecordAlloc(moved, size, AllocFunction::kRealloc, OLLAMATRACE_CALLER_FRAME());
    }
    Leave();
    return moved;
  }
  if (!OLLAMATRACE_ENTER()) return RealRealloc(old_block, size);
  void* block;
  if (old_block == nullptr) {
    block = RealRealloc(nullptr, size);
    if (block != nullptr) {
      RecordAlloc(block, size, AllocFunction::kRealloc, OLLAMATRACE_CALLER_FRAME());
    }
  } else {
    const bool recorded = RecordReallocBegin(old_block);
    block = RealRealloc(old_block, size);
    RecordReallocEnd(recorded, old_block, block, size, OLLAMATRACE_CALLER_FRAME());
  }
  Leave();
  return block;
}

OLLAMATRACE_RECORDED void RecordedFree(void* block) {
  if (block == nullptr) return;
  if (!OLLAMATRACE_ENTER()) return RealFree(block);
  if (!IsBootstrap(block)) RecordFree(block);
  RealFree(block);
  Leave();
}

OLLAMATRACE_RECORDED void RecordedFreeSized(void* block, size_t size) {
  if (!OLLAMATRACE_ENTER()) return RealFreeSized(block, size);
  if (!IsBootstrap(block)) RecordFree(block);
  RealFreeSized(block, size);
  Leave();
}

OLLAMATRACE_RECORDED void RecordedFreeAlignedSized(void* block, size_t alignment, size_t size) {
  if (!OLLAMATRACE_ENTER()) return RealFreeAlignedSized(block, alignment, size);
  if (!IsBootstrap(block)) RecordFree(block);
  RealFreeAlignedSized(block, alignment, size);
  Leave();
}

OLLAMATRACE_RECORDED int RecordedPosixMemalign(void** result, size_t alignment, size_t size) {
  if (!OLLAMATRACE_ENTER()) return RealPosixMemalign(result, alignment, size);
  const int error = RealPosixMemalign(result, alignment, size);
  if (error == 0 && *result != nullptr) {
    RecordAlloc(*result, size, AllocFunction::kAligned, OLLAMATRACE_CALLER_FRAME());
  }
  Leave();
  return error;
}

}  // namespace
}  // namespace ollamatrace

using namespace ollamatrace;  // NOLINT: the hooks are C functions

OLLAMATRACE_HOOK void* malloc(size_t size) {
  return AllocNeedsNoRecord(size) ? g_real.malloc(size) : RecordedMalloc(size);
}

OLLAMATRACE_HOOK void* calloc(size_t count, size_t size) {
  size_t bytes;
  return !__builtin_mul_overflow(count, size, &bytes) && AllocNeedsNoRecord(bytes)
             ? g_real.calloc(count, size)
             : RecordedCalloc(count, size);
}

OLLAMATRACE_HOOK void* realloc(void* old_block, size_t size) {
  return FreeNeedsNoRecord(old_block) && AllocNeedsNoRecord(size)
             ? g_real.realloc(old_block, size)
             : RecordedRealloc(old_block, size);
}

OLLAMATRACE_HOOK void free(void* block) {
  FreeNeedsNoRecord(block) ? g_real.free(block) : RecordedFree(block);
}

OLLAMATRACE_HOOK void free_sized(void* block, size_t size) {
  if (block == nullptr) return;
  FreeNeedsNoRecord(block) ? RealFreeSized(block, size) : RecordedFreeSized(block, size);
}

OLLAMATRACE_HOOK void free_aligned_sized(void* block, size_t alignment, size_t size) {
  if (block == nullptr) return;
  FreeNeedsNoRecord(block) ? RealFreeAlignedSized(block, alignment, size)
                           : RecordedFreeAlignedSized(block, alignment, size);
}

OLLAMATRACE_HOOK int posix_memalign(void** result, size_t alignment, size_t size) {
  return AllocNeedsNoRecord(size) ? RealPosixMemalign(result, alignment, size)
                                  : RecordedPosixMemalign(result, alignment, size);
}

#define OLLAMATRACE_ALIGNED_HOOK(name, Call, parameters, arguments, bytes)            \
  namespace {                                                                         \
  OLLAMATRACE_RECORDED void* Recorded_##name parameters {                             \
    if (!OLLAMATRACE_ENTER()) return Call arguments;                                  \
    void* const block = Call arguments;                                               \
    if (block != nullptr) {                                                           \
      RecordAlloc(block, bytes, AllocFunction::kAligned, OLLAMATRACE_CALLER_FRAME()); \
    }                                                                                 \
    Leave();                                                                          \
    return block;                                                                     \
  }                                                                                   \
  }                                                                                   \
  OLLAMATRACE_HOOK void* name parameters {                                            \
    return AllocNeedsNoRecord(bytes) ? Call arguments : Recorded_##name arguments;    \
  }
OLLAMATRACE_ALIGNED_HOOK(aligned_alloc, RealAlignedAlloc, (size_t alignment, size_t size),
                         (alignment, size), size)
OLLAMATRACE_ALIGNED_HOOK(memalign, RealMemalign, (size_t alignment, size_t size), (alignment, size),
                         size)
OLLAMATRACE_ALIGNED_HOOK(valloc, RealValloc, (size_t size), (size), size)
OLLAMATRACE_ALIGNED_HOOK(pvalloc, RealPvalloc, (size_t size), (size), size)
