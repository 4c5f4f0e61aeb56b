// A handler that allocates interrupts malloc and free at any instruction, in every thread.
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include <atomic>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectLossy;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

namespace {

constexpr int kWanted = 1500;
std::atomic<int> handled{0};
std::atomic<size_t> kept{0};

}  // namespace

PROGRAM_KEEPER void KeepInHandler() { Opaque(malloc(24)); }
PROGRAM_KEEPER void KeepInWorker() { Opaque(malloc(25)); }

namespace {

void Handler(int) {
  const int saved_errno = errno;
  void* block = Opaque(malloc(64));
  KeepInHandler();
  free(Opaque(realloc(block, 128)));
  handled.fetch_add(1);
  errno = saved_errno;
}

__attribute__((noinline)) void Churn(int depth) {
  void* block = Opaque(malloc(static_cast<size_t>(16 + depth)));
  if (depth > 0) Churn(depth - 1);
  free(Opaque(block));
}

void* Work(void*) {
  timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  deadline.tv_sec += 5;
  // The pool of the linked allocator is never given back: hence the limit on rounds, too.
  for (int round = 0; handled.load() < kWanted && round < 20000; ++round) {
    Churn(10);
    if (round % 100 == 0) {
      KeepInWorker();
      kept.fetch_add(1);
      timespec now;
      clock_gettime(CLOCK_MONOTONIC, &now);
      if (now.tv_sec >= deadline.tv_sec) break;
    }
  }
  return nullptr;
}

void SetTimer(int microseconds) {
  itimerval timer = {};
  timer.it_interval.tv_usec = microseconds;
  timer.it_value.tv_usec = microseconds;
  PROGRAM_CHECK(setitimer(ITIMER_REAL, &timer, nullptr) == 0);
}

}  // namespace

int main() {
  ExpectLossy("what a handler does inside a hook is counted, not recorded");
  struct sigaction action = {};
  action.sa_handler = Handler;
  action.sa_flags = SA_RESTART;
  PROGRAM_CHECK(sigaction(SIGALRM, &action, nullptr) == 0);
  pthread_t threads[3];
  SetTimer(200);
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
  Work(nullptr);
  for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  SetTimer(0);
  PROGRAM_CHECK(handled.load() > 0);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  PROGRAM_CHECK(pthread_sigmask(SIG_BLOCK, &alarm_only, nullptr) == 0);
  ExpectSurvivors("KeepInHandler", static_cast<size_t>(handled.load()),
                  static_cast<size_t>(handled.load()) * 24);
  ExpectSurvivors("KeepInWorker", kept.load(), kept.load() * 25);
  puts("done");
  return 0;
}
