// Killed in the middle of everything, threads running: what was done before is there, what came
// later may be.
#include <pthread.h>
#include <signal.h>

#include <atomic>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepBeforeTheKill() { Opaque(malloc(19)); }

namespace {

std::atomic<int> running{0};

void* Churn(void*) {
  for (size_t i = 0;; ++i) {
    free(Opaque(malloc(i % 500)));
    if (i == 5000) running.fetch_add(1);
  }
}

}  // namespace

int main() {
  pthread_t threads[4];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Churn, nullptr) == 0);
  for (int i = 0; i < 2500; ++i) KeepBeforeTheKill();
  while (running.load() < 4) usleep(100);
  ExpectSurvivors("KeepBeforeTheKill", 2500, 2500 * 19);
  kill(getpid(), SIGKILL);
  for (;;) pause();
}
