// Thousands of short threads: each leaves one block, and its buffer is handed on.
#include <pthread.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInShortThread() { Opaque(malloc(37)); }

namespace {

void* Work(void*) {
  for (size_t i = 0; i < 10; ++i) free(Opaque(malloc(i)));
  KeepInShortThread();
  return nullptr;
}

}  // namespace

int main() {
  constexpr int kRounds = 375;
  constexpr int kAtOnce = 16;
  for (int round = 0; round < kRounds; ++round) {
    pthread_t threads[kAtOnce];
    for (pthread_t& thread : threads)
      PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
    for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  }
  // Detached ones may outlive main's interest in them.
  pthread_attr_t attributes;
  PROGRAM_CHECK(pthread_attr_init(&attributes) == 0);
  PROGRAM_CHECK(pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED) == 0);
  for (int i = 0; i < 50; ++i) {
    pthread_t thread;
    PROGRAM_CHECK(pthread_create(
                      &thread, &attributes,
                      [](void*) -> void* {
                        free(Opaque(malloc(9)));
                        return nullptr;
                      },
                      nullptr) == 0);
  }
  ExpectSurvivors("KeepInShortThread", kRounds * kAtOnce, kRounds * kAtOnce * 37);
  puts("done");
  return 0;
}
