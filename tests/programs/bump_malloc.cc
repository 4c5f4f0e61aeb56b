// An allocator that may be interrupted anywhere, by a signal handler that allocates or never
// returns.
//
// glibc's may not, so programs that test the tracer with such handlers link this one: it shows at
// the same time that a linked allocator stays in charge below the tracer (RTLD_NEXT). A bump
// pointer, nothing is ever given back.
#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <atomic>

#define BUMP_EXPORT extern "C" __attribute__((visibility("default"), noinline))

namespace {

constexpr size_t kPoolBytes = size_t{768} << 20;  // .bss: costs what is touched.
alignas(4096) char pool[kPoolBytes];
std::atomic<size_t> used{0};
std::atomic<size_t> calls{0};

// The size of each block stands in the 16 bytes before it.
char* Take(size_t size, size_t alignment) {
  calls.fetch_add(1, std::memory_order_relaxed);
  if (alignment < 16) alignment = 16;
  if (size > kPoolBytes / 2 || alignment > kPoolBytes / 4) {
    errno = ENOMEM;
    return nullptr;
  }
  const size_t reserve = ((size + 15) & ~size_t{15}) + 16 + alignment;
  const size_t start = used.fetch_add(reserve, std::memory_order_relaxed);
  if (start + reserve > kPoolBytes) {
    errno = ENOMEM;
    return nullptr;
  }
  auto address = reinterpret_cast<uintptr_t>(pool + start) + 16;
  address = (address + alignment - 1) & ~(alignment - 1);
  char* const block = reinterpret_cast<char*>(address);
  memcpy(block - 16, &size, sizeof size);
  return block;
}

size_t SizeOf(const void* block) {
  size_t size;
  memcpy(&size, static_cast<const char*>(block) - 16, sizeof size);
  return size;
}

}  // namespace

BUMP_EXPORT size_t BumpCalls() { return calls.load(); }
BUMP_EXPORT void* malloc(size_t size) { return Take(size, 16); }
BUMP_EXPORT void* calloc(size_t count, size_t size) {
  size_t bytes;
  if (__builtin_mul_overflow(count, size, &bytes)) {
    errno = ENOMEM;
    return nullptr;
  }
  return Take(bytes, 16);  // The pool is zero and never used twice.
}
BUMP_EXPORT void free(void*) {}
BUMP_EXPORT void* realloc(void* old, size_t size) {
  char* block = Take(size, 16);
  if (block != nullptr && old != nullptr) {
    const size_t old_size = SizeOf(old);
    memcpy(block, old, old_size < size ? old_size : size);
  }
  return block;
}
BUMP_EXPORT void* memalign(size_t alignment, size_t size) { return Take(size, alignment); }
BUMP_EXPORT void* aligned_alloc(size_t alignment, size_t size) { return Take(size, alignment); }
BUMP_EXPORT void* valloc(size_t size) { return Take(size, 4096); }
BUMP_EXPORT void* pvalloc(size_t size) { return Take((size + 4095) & ~size_t{4095}, 4096); }
BUMP_EXPORT int posix_memalign(void** result, size_t alignment, size_t size) {
  const int saved_errno = errno;
  char* block = Take(size, alignment);
  errno = saved_errno;
  if (block == nullptr) return ENOMEM;
  *result = block;
  return 0;
}
BUMP_EXPORT size_t malloc_usable_size(void* block) { return block == nullptr ? 0 : SizeOf(block); }
