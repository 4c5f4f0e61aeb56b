// Threads that compute, and a handler that allocates wherever it interrupts them: in the middle of
// prologues and epilogues, in libc, while an exception is thrown. Half of the threads have a stack
// for the handler alone. Ends after argv[1] signals.

#include <pthread.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <stdexcept>

namespace {

std::atomic<long> handled{0};
long wanted;
thread_local timer_t timer;
thread_local unsigned random_state;

// Once, some time from now, so that a thread gets on between two signals, however long one takes.
void Arm() {
  random_state = random_state * 1664525u + 1013904223u;
  itimerspec when = {};
  when.it_value.tv_nsec = 20'000 + static_cast<long>(random_state >> 16);  // up to 85 us
  timer_settime(timer, 0, &when, nullptr);
}

void Handler(int) {
  void* block = std::malloc(24);
  __asm__ volatile("" : "+r"(block));
  std::free(block);
  handled.fetch_add(1, std::memory_order_relaxed);
  Arm();
}

__attribute__((noinline)) int Throw(int depth) {
  if (depth == 0) throw 1;
  const int result = Throw(depth - 1) + 1;
  __asm__ volatile("");
  return result;
}

__attribute__((noinline)) long Mix(long seed, int depth) {
  volatile long held[6] = {seed, seed * 3, seed * 5, seed * 7, seed * 11, seed * 13};
  long sum = 0;
  for (int i = 0; i < 6; ++i) sum += held[i] ^ i;
  if (depth > 0) sum += Mix(sum, depth - 1) * 3 + Mix(sum ^ 1, depth - 2 < 0 ? 0 : depth - 2);
  return sum;
}

int Compare(const void* a, const void* b) {
  return *static_cast<const int*>(a) - *static_cast<const int*>(b);
}

void* Work(void* argument) {
  char* const memory = static_cast<char*>(argument);
  if (memory != nullptr) {
    const stack_t stack = {memory, 0, 1 << 18};
    sigaltstack(&stack, nullptr);
  }
  sigevent event = {};
  event.sigev_notify = SIGEV_THREAD_ID;
  event.sigev_signo = SIGPROF;
  event._sigev_un._tid = gettid();
  random_state = static_cast<unsigned>(gettid());
  if (timer_create(CLOCK_MONOTONIC, &event, &timer) != 0) std::abort();
  Arm();
  int values[500];
  char text[200];
  for (long round = 0; handled.load(std::memory_order_relaxed) < wanted; ++round) {
    for (int i = 0; i < 500; ++i) values[i] = static_cast<int>((i * 7919 + round) % 1009);
    std::sort(values, values + 250);
    std::qsort(values + 250, 250, sizeof(int), Compare);
    std::snprintf(text, sizeof text, "%ld %5.3f %s %x", Mix(round, 6), round / 7.0, "text",
                  values[3]);
    values[0] += static_cast<int>(std::strtod(text, nullptr));
    if (round % 50 == 0) {
      try {
        Throw(8);
      } catch (int) {
      }
    }
  }
  timer_delete(timer);
  return nullptr;
}

}  // namespace

int main(int count, char** arguments) {
  wanted = count > 1 ? std::atol(arguments[1]) : 1000;
  struct sigaction action = {};
  action.sa_handler = Handler;
  action.sa_flags = SA_RESTART | SA_ONSTACK;
  sigaction(SIGPROF, &action, nullptr);
  static char stacks[2][1 << 18];
  pthread_t threads[3];
  for (int i = 0; i < 3; ++i) {
    if (pthread_create(&threads[i], nullptr, Work, i < 2 ? stacks[i] : nullptr) != 0) return 1;
  }
  Work(nullptr);
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  return 0;
}
