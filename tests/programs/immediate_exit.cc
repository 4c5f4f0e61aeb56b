// Leaves in the way that argv[1] names, most of which run nothing of the tracer's. Nothing may be
// missing.
#include <pthread.h>
#include <signal.h>
#include <sys/syscall.h>

#include <atomic>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepUntilTheEnd() { Opaque(malloc(52)); }
PROGRAM_KEEPER void KeepInThread() { Opaque(malloc(53)); }

namespace {

std::atomic<int> ready{0};

// Frees all but every hundredth block, then stays: its records must not wait for its end.
void* Work(void*) {
  for (int i = 0; i < 20000; ++i) {
    free(Opaque(malloc(static_cast<size_t>(i % 1000))));
    if (i % 100 == 0) KeepInThread();
  }
  ready.fetch_add(1);
  for (;;) pause();
}

}  // namespace

int main(int argc, char** argv) {
  PROGRAM_CHECK(argc == 2);
  pthread_t threads[3];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
  for (int i = 0; i < 300; ++i) KeepUntilTheEnd();
  while (ready.load() < 3) usleep(100);
  ExpectSurvivors("KeepUntilTheEnd", 300, 300 * 52);
  ExpectSurvivors("KeepInThread", 600, 600 * 53);
  puts("leaving");
  fflush(nullptr);
  const char* way = argv[1];
  if (strcmp(way, "_exit") == 0) _exit(11);
  if (strcmp(way, "quick_exit") == 0) quick_exit(12);
  if (strcmp(way, "exit_group") == 0) syscall(SYS_exit_group, 13);
  if (strcmp(way, "exit") == 0) exit(14);
  if (strcmp(way, "abort") == 0) abort();
  if (strcmp(way, "kill") == 0) kill(getpid(), SIGKILL);
  if (strcmp(way, "term") == 0) kill(getpid(), SIGTERM);
  if (strcmp(way, "segv") == 0) *static_cast<volatile int*>(Opaque(static_cast<int*>(nullptr))) = 1;
  for (;;) pause();
}
