// jemalloc, linked or preloaded behind the tracer, stays the allocator.
#include <dlfcn.h>
#include <malloc.h>
#include <stdint.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::kSkip;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInJemalloc() { Opaque(malloc(100)); }

namespace {

using Mallctl = int (*)(const char*, void*, size_t*, void*, size_t);

uint64_t AllocatedByThread(Mallctl mallctl) {
  uint64_t bytes = 0;
  size_t size = sizeof bytes;
  PROGRAM_CHECK(mallctl("thread.allocated", &bytes, &size, nullptr, 0) == 0);
  return bytes;
}

}  // namespace

int main() {
  auto mallctl = reinterpret_cast<Mallctl>(dlsym(RTLD_DEFAULT, "mallctl"));
  if (mallctl == nullptr) return kSkip;
  const uint64_t before = AllocatedByThread(mallctl);
  for (int i = 0; i < 1000; ++i) KeepInJemalloc();
  printf("jemalloc gave %llu bytes\n",
         static_cast<unsigned long long>(AllocatedByThread(mallctl) - before));
  void* block = Opaque(memalign(1 << 16, 10));
  PROGRAM_CHECK(reinterpret_cast<uintptr_t>(block) % (1 << 16) == 0);
  free(block);
  ExpectSurvivors("KeepInJemalloc", 1000, 100000);
  return 0;
}
