// A linked library that exports names the tracer might need. None of them may be called but by the
// target itself.
#include <dlfcn.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

#include <atomic>

#define MISBEHAVING_EXPORT extern "C" __attribute__((visibility("default"), noinline))

namespace {

std::atomic<int> calls{0};

void Trap() {
  static const char kText[] = "a function of the target was called by somebody else\n";
  (void)!write(2, kText, sizeof kText - 1);
  _exit(98);
}

}  // namespace

// Unwinders and compressors: the tracer has its own.
#define MISBEHAVING_TRAP(name) \
  MISBEHAVING_EXPORT void name() { Trap(); }
MISBEHAVING_TRAP(backtrace)
MISBEHAVING_TRAP(unw_step)
MISBEHAVING_TRAP(unw_init_local)
MISBEHAVING_TRAP(_ULx86_64_step)
MISBEHAVING_TRAP(_ULx86_64_init_local)
MISBEHAVING_TRAP(unw_backtrace)
MISBEHAVING_TRAP(ZSTD_compress)
MISBEHAVING_TRAP(ZSTD_compress2)
MISBEHAVING_TRAP(ZSTD_compressCCtx)
MISBEHAVING_TRAP(ZSTD_compressStream2)
MISBEHAVING_TRAP(ZSTD_createCCtx)
MISBEHAVING_TRAP(XXH64)
MISBEHAVING_TRAP(ZSTD_XXH64)

// What a test double of the file system would replace.
MISBEHAVING_EXPORT ssize_t pwrite(int, const void*, size_t, off_t) {
  calls.fetch_add(1);
  Trap();
  return -1;
}
MISBEHAVING_EXPORT int ftruncate(int, off_t) {
  calls.fetch_add(1);
  Trap();
  return -1;
}
MISBEHAVING_EXPORT int posix_fallocate(int, off_t, off_t) {
  calls.fetch_add(1);
  Trap();
  return -1;
}
MISBEHAVING_EXPORT int MisbehavingCalls() { return calls.load(); }
