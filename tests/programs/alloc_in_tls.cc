// Destructors of thread_local objects and of pthread keys allocate and free when the tracer's
// thread state may be gone.
#include <pthread.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInTlsDestructor() { Opaque(malloc(40)); }
PROGRAM_KEEPER void KeepInKeyDestructor() { Opaque(malloc(90)); }
PROGRAM_KEEPER void* FreedInKeyDestructor() { return Opaque(malloc(2000)); }

namespace {

constexpr int kThreads = 40;
pthread_key_t key;

struct Local {
  ~Local() {
    strings.assign(20, std::string(200, 'z'));
    KeepInTlsDestructor();
  }
  std::vector<std::string> strings{10, std::string(100, 'a')};
};
thread_local Local local;

struct Round {
  int left;
  void* block;
};

// Sets its key again, so that glibc calls it in a later round, after other destructors.
void KeyDestructor(void* value) {
  auto* round = static_cast<Round*>(value);
  free(round->block);
  round->block = nullptr;
  if (--round->left > 0) {
    round->block = FreedInKeyDestructor();
    PROGRAM_CHECK(pthread_setspecific(key, round) == 0);
    return;
  }
  KeepInKeyDestructor();
  free(round);
}

void* Work(void*) {
  PROGRAM_CHECK(local.strings.size() == 10);
  auto* round = static_cast<Round*>(malloc(sizeof(Round)));
  round->left = 3;
  round->block = FreedInKeyDestructor();
  PROGRAM_CHECK(pthread_setspecific(key, round) == 0);
  return nullptr;
}

}  // namespace

int main() {
  PROGRAM_CHECK(pthread_key_create(&key, KeyDestructor) == 0);
  for (int i = 0; i < kThreads / 4; ++i) {
    pthread_t threads[4];
    for (pthread_t& thread : threads)
      PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
    for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  }
  ExpectSurvivors("KeepInTlsDestructor", kThreads, kThreads * 40);
  ExpectSurvivors("KeepInKeyDestructor", kThreads, kThreads * 90);
  ExpectSurvivors("FreedInKeyDestructor", 0, 0);
  puts("done");
  return 0;
}
