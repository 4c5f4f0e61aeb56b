// Every function of the malloc family behaves as glibc documents it: sizes of zero, failures,
// errno, alignment.
#include <malloc.h>
#include <stdint.h>

#include "tests/programs/program.h"

namespace {

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::kAny;
using ollamatrace::programs::Opaque;

// Volatile: gcc warns about sizes above PTRDIFF_MAX that it can see.
volatile size_t huge = static_cast<size_t>(PTRDIFF_MAX);
volatile size_t everything = ~size_t{0};

bool Aligned(const void* pointer, size_t alignment) {
  return reinterpret_cast<uintptr_t>(pointer) % alignment == 0;
}

bool AllZero(const void* pointer, size_t size) {
  const auto* bytes = static_cast<const unsigned char*>(pointer);
  for (size_t i = 0; i < size; ++i) {
    if (bytes[i] != 0) return false;
  }
  return true;
}

void ZeroSizes() {
  void* blocks[] = {Opaque(malloc(0)),       Opaque(calloc(0, 5)),
                    Opaque(calloc(5, 0)),    Opaque(realloc(nullptr, 0)),
                    Opaque(memalign(64, 0)), Opaque(aligned_alloc(64, 0)),
                    Opaque(valloc(0)),       Opaque(pvalloc(0))};
  for (void* block : blocks) {
    printf("zero size: %s\n", block != nullptr ? "a block" : "null");
    free(block);
  }
  free(nullptr);
}

void Failures() {
  errno = 0;
  PROGRAM_CHECK(Opaque(malloc(huge)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(malloc(huge + 1)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(calloc(huge, 1)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(calloc(huge / 2, 4)) == nullptr &&
                errno == ENOMEM);  // The product overflows.
  errno = 0;
  PROGRAM_CHECK(Opaque(calloc(4, huge / 2)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(calloc(everything, everything)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(realloc(nullptr, huge)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(reallocarray(nullptr, huge, 4)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(memalign(4096, huge)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(memalign(everything - 1, 1)) == nullptr);
  printf("memalign with an absurd alignment: errno %d\n", errno);
  errno = 0;
  PROGRAM_CHECK(Opaque(aligned_alloc(64, huge)) == nullptr && errno == ENOMEM);
  errno = 0;
  volatile size_t three = 3;
  void* odd = Opaque(aligned_alloc(three, 100));  // glibc 2.38 began to refuse it.
  printf("aligned_alloc(3): %s errno %d\n", odd != nullptr ? "a block" : "null", errno);
  free(odd);
  errno = 0;
  PROGRAM_CHECK(Opaque(valloc(huge)) == nullptr && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(Opaque(pvalloc(huge)) == nullptr && errno == ENOMEM);

  // posix_memalign answers with its value, and leaves errno and the pointer alone.
  errno = EDOM;
  int marker = 0;
  void* untouched = &marker;
  PROGRAM_CHECK(posix_memalign(&untouched, 3, 8) == EINVAL);
  PROGRAM_CHECK(posix_memalign(&untouched, 0, 8) == EINVAL);
  PROGRAM_CHECK(posix_memalign(&untouched, sizeof(void*) * 3, 8) == EINVAL);
  PROGRAM_CHECK(posix_memalign(&untouched, sizeof(void*) / 2, 8) == EINVAL);
  PROGRAM_CHECK(untouched == &marker && errno == EDOM);
  PROGRAM_CHECK(posix_memalign(&untouched, 64, huge) == ENOMEM);
  PROGRAM_CHECK(untouched == &marker);
}

void Contents() {
  const size_t sizes[] = {1, 24, 1000, 70000, 300000};
  for (const size_t size : sizes) {
    char* dirty = static_cast<char*>(Opaque(malloc(size)));
    memset(dirty, 0x5a, size);
    free(dirty);
    void* zeroed = Opaque(calloc(1, size));
    PROGRAM_CHECK(AllZero(zeroed, size));
    PROGRAM_CHECK(malloc_usable_size(zeroed) >= size);
    free(zeroed);
  }
  char* text = static_cast<char*>(malloc(16));
  memcpy(text, "0123456789abcde", 16);
  for (size_t size = 32; size < 4 << 20; size = size * 3 / 2) {
    text = static_cast<char*>(Opaque(realloc(text, size)));
    PROGRAM_CHECK(text != nullptr && memcmp(text, "0123456789abcde", 16) == 0);
  }
  text = static_cast<char*>(Opaque(realloc(text, 16)));
  PROGRAM_CHECK(memcmp(text, "0123456789abcde", 16) == 0);
  free(text);
}

void Alignment() {
  for (size_t alignment = sizeof(void*); alignment <= size_t{8} << 20; alignment *= 2) {
    void* block = nullptr;
    PROGRAM_CHECK(posix_memalign(&block, alignment, 40) == 0 && Aligned(block, alignment));
    memset(block, 1, 40);
    void* block2 = Opaque(aligned_alloc(alignment, alignment));
    PROGRAM_CHECK(block2 != nullptr && Aligned(block2, alignment));
    void* block3 = Opaque(memalign(alignment, 3));
    PROGRAM_CHECK(block3 != nullptr && Aligned(block3, alignment));
    block3 = Opaque(realloc(block3, 5000));  // Loses the alignment, not the block.
    PROGRAM_CHECK(block3 != nullptr);
    free(block);
    free(block2);
    free(block3);
  }
  const auto page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* block = Opaque(valloc(3));
  PROGRAM_CHECK(Aligned(block, page));
  free(block);
  block = Opaque(pvalloc(3));
  PROGRAM_CHECK(Aligned(block, page) && malloc_usable_size(block) >= page);
  free(block);
}

}  // namespace

PROGRAM_KEEPER void KeepMalloc() { Opaque(malloc(100)); }
PROGRAM_KEEPER void KeepZero() { Opaque(malloc(0)); }
PROGRAM_KEEPER void KeepCalloc() { Opaque(calloc(3, 7)); }
PROGRAM_KEEPER void KeepRealloc() { Opaque(realloc(Opaque(malloc(10)), 1000)); }
PROGRAM_KEEPER void KeepReallocNull() { Opaque(realloc(nullptr, 77)); }
PROGRAM_KEEPER void KeepShrunk() { Opaque(realloc(Opaque(malloc(4000)), 30)); }
PROGRAM_KEEPER void KeepMemalign() { Opaque(memalign(4096, 10)); }
PROGRAM_KEEPER void KeepAlignedAlloc() { Opaque(aligned_alloc(128, 256)); }
PROGRAM_KEEPER void KeepValloc() { Opaque(valloc(11)); }
PROGRAM_KEEPER void KeepPvalloc() { Opaque(pvalloc(12)); }
PROGRAM_KEEPER void KeepStrdup() { Opaque(strdup("fifteen letters")); }
PROGRAM_KEEPER void KeepReallocarray() { Opaque(reallocarray(nullptr, 10, 9)); }
PROGRAM_KEEPER void KeepPosixMemalign() {
  void* block = nullptr;
  PROGRAM_CHECK(posix_memalign(&block, 64, 100) == 0);
  Opaque(block);
}
// A realloc that fails leaves the block as it was.
PROGRAM_KEEPER void KeepFailedRealloc() {
  char* block = static_cast<char*>(Opaque(malloc(64)));
  memset(block, 'x', 64);
  errno = 0;
  PROGRAM_CHECK(Opaque(realloc(block, huge)) == nullptr && errno == ENOMEM);
  for (int i = 0; i < 64; ++i) PROGRAM_CHECK(block[i] == 'x');
}
// glibc: realloc(p, 0) frees.
PROGRAM_KEEPER void KeepNothing() {
  PROGRAM_CHECK(Opaque(realloc(Opaque(malloc(55)), 0)) == nullptr);
  free(Opaque(malloc(66)));
}

int main() {
  ZeroSizes();
  Failures();
  Contents();
  Alignment();
  KeepMalloc();
  KeepZero();
  KeepCalloc();
  KeepRealloc();
  KeepReallocNull();
  KeepShrunk();
  KeepMemalign();
  KeepAlignedAlloc();
  KeepValloc();
  KeepPvalloc();
  KeepStrdup();
  KeepReallocarray();
  KeepPosixMemalign();
  KeepFailedRealloc();
  KeepNothing();
  ExpectSurvivors("KeepMalloc", 1, 100);
  ExpectSurvivors("KeepZero", 1, 0);
  ExpectSurvivors("KeepCalloc", 1, 21);
  ExpectSurvivors("KeepRealloc", 1, 1000);
  ExpectSurvivors("KeepReallocNull", 1, 77);
  ExpectSurvivors("KeepShrunk", 1, 30);
  ExpectSurvivors("KeepMemalign", 1, 10);
  ExpectSurvivors("KeepAlignedAlloc", 1, 256);
  ExpectSurvivors("KeepValloc", 1, 11);
  ExpectSurvivors("KeepPvalloc", 1,
                  kAny);  // The size asked for, or the pages it was rounded up to.
  ExpectSurvivors("KeepStrdup", 1, 16);
  ExpectSurvivors("KeepReallocarray", 1, 90);
  ExpectSurvivors("KeepPosixMemalign", 1, 100);
  ExpectSurvivors("KeepFailedRealloc", 1, 64);
  ExpectSurvivors("KeepNothing", 0, 0);
  puts("done");
  return 0;
}
