// free_sized and free_aligned_sized (C23; glibc has them from 2.43) where they exist, and through
// the library where they do not.
#include <dlfcn.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void FreedSized() {
  using FreeSized = void (*)(void*, size_t);
  using FreeAlignedSized = void (*)(void*, size_t, size_t);
  auto free_sized = reinterpret_cast<FreeSized>(dlsym(RTLD_DEFAULT, "free_sized"));
  auto free_aligned_sized =
      reinterpret_cast<FreeAlignedSized>(dlsym(RTLD_DEFAULT, "free_aligned_sized"));
  for (size_t size = 1; size < 100000; size = size * 2 + 1) {
    void* block = Opaque(malloc(size));
    void* aligned = Opaque(aligned_alloc(256, size * 256));
    errno = EDOM;
    free_sized != nullptr ? free_sized(block, size) : free(block);
    free_aligned_sized != nullptr ? free_aligned_sized(aligned, 256, size * 256) : free(aligned);
    if (free_sized != nullptr) free_sized(nullptr, 0);
    PROGRAM_CHECK(errno == EDOM);
  }
}

int main() {
  FreedSized();
  ExpectSurvivors("FreedSized", 0, 0);
  puts("done");
  return 0;
}
