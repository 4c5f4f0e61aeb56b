// Many threads alive at once, all allocating.
#include <pthread.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInLiveThread() { Opaque(malloc(39)); }

namespace {

constexpr unsigned kThreads = 400;
pthread_barrier_t barrier;

void* Work(void*) {
  KeepInLiveThread();
  pthread_barrier_wait(&barrier);
  for (size_t i = 0; i < 200; ++i) free(Opaque(malloc(i)));
  KeepInLiveThread();
  pthread_barrier_wait(&barrier);
  return nullptr;
}

}  // namespace

int main() {
  PROGRAM_CHECK(pthread_barrier_init(&barrier, nullptr, kThreads) == 0);
  pthread_attr_t attributes;
  PROGRAM_CHECK(pthread_attr_init(&attributes) == 0);
  PROGRAM_CHECK(pthread_attr_setstacksize(&attributes, 128 * 1024) == 0);
  static pthread_t threads[kThreads];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, &attributes, Work, nullptr) == 0);
  for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  ExpectSurvivors("KeepInLiveThread", 2 * kThreads, 2 * kThreads * 39);
  puts("done");
  return 0;
}
