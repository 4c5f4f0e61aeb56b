// siglongjmp out of a handler that interrupted malloc or free at any instruction, so that the hook
// never returns.
//
// Afterwards another thread, and the one that jumped, must still be able to allocate: whatever the
// hook held must be free again.
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/time.h>
#include <time.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectLossy;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

namespace {

constexpr int kWanted = 500;
sigjmp_buf back;
volatile int jumps = 0;

void Handler(int) {
  jumps = jumps + 1;
  siglongjmp(back, 1);
}

void SetTimer(int microseconds) {
  itimerval timer = {};
  timer.it_interval.tv_usec = microseconds;
  timer.it_value.tv_usec = microseconds;
  PROGRAM_CHECK(setitimer(ITIMER_REAL, &timer, nullptr) == 0);
}

bool Before(const timespec& deadline) {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec < deadline.tv_sec;
}

__attribute__((noinline)) void Churn(int depth) {
  void* block = Opaque(malloc(static_cast<size_t>(16 + depth)));
  if (depth > 0) Churn(depth - 1);
  free(Opaque(block));
}

}  // namespace

PROGRAM_KEEPER void KeepInOther() { Opaque(malloc(111)); }
PROGRAM_KEEPER void KeepInJumper() { Opaque(malloc(222)); }

namespace {

void* Other(void*) {
  for (int i = 0; i < 100; ++i) KeepInOther();
  return nullptr;
}

}  // namespace

int main() {
  ExpectLossy("an event may be cut off by the jump");
  timespec deadline;
  clock_gettime(CLOCK_MONOTONIC, &deadline);
  deadline.tv_sec += 5;
  signal(SIGALRM, Handler);
  (void)sigsetjmp(back, 1);
  SetTimer(300);
  // The pool of the linked allocator is never given back: hence the limit on rounds, too.
  for (volatile int round = 0; jumps < kWanted && round < 20000 && Before(deadline);) {
    round = round + 1;
    Churn(20);
  }
  SetTimer(0);
  sigset_t alarm_only;
  sigemptyset(&alarm_only);
  sigaddset(&alarm_only, SIGALRM);
  PROGRAM_CHECK(sigprocmask(SIG_BLOCK, &alarm_only, nullptr) == 0);
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, Other, nullptr) == 0);
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  for (int i = 0; i < 100; ++i) KeepInJumper();
  ExpectSurvivors("KeepInOther", 100, 11100);
  ExpectSurvivors("KeepInJumper", 100, 22200);
  puts("done");
  return 0;
}
