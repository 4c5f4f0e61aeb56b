// A linked allocator stays in charge: the tracer forwards to RTLD_NEXT, not to glibc.
#include <malloc.h>
#include <pthread.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

extern "C" size_t BumpCalls();

PROGRAM_KEEPER void KeepFromLinked() {
  for (int i = 0; i < 100; ++i) Opaque(malloc(24));
}

namespace {

void* Work(void*) {
  for (int i = 0; i < 1000; ++i) free(Opaque(realloc(Opaque(calloc(2, 10)), 30)));
  return nullptr;
}

}  // namespace

int main() {
  const size_t before = BumpCalls();
  KeepFromLinked();
  printf("%zu calls reached the linked allocator\n", BumpCalls() - before);
  void* block = Opaque(malloc(101));
  printf("usable size %zu\n", malloc_usable_size(block));  // glibc would say 104.
  free(block);
  pthread_t threads[4];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
  for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  ExpectSurvivors("KeepFromLinked", 100, 2400);
  return 0;
}
