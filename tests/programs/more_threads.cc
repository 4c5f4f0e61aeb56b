// More threads alive than the tracer has room for: those that find none go on as fast as ever, and
// what they did is counted as lost.
//
// A tracer that waits for room with each call would be at it for many minutes.
#include <pthread.h>
#include <sched.h>

#include <atomic>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectLossy;
using ollamatrace::programs::Opaque;

namespace {

constexpr unsigned kThreads = 4400;
constexpr unsigned kQuietThreads = 4150;  // these take what room there is
constexpr size_t kStack = 32 * 1024;
pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
pthread_t threads[kThreads];
std::atomic<unsigned> ready{0};

void* Work(void* argument) {
  const bool quiet = reinterpret_cast<size_t>(argument) < kQuietThreads;
  for (size_t i = 0; i < (quiet ? 1 : 1000); ++i) free(Opaque(malloc(i % 100)));
  ready.fetch_add(1);
  pthread_mutex_lock(&gate);
  pthread_mutex_unlock(&gate);
  return nullptr;
}

}  // namespace

int main() {
  ExpectLossy("there are more threads than rings");
  pthread_attr_t attributes;
  PROGRAM_CHECK(pthread_attr_init(&attributes) == 0);
  PROGRAM_CHECK(pthread_attr_setstacksize(&attributes, kStack) == 0);
  PROGRAM_CHECK(pthread_mutex_lock(&gate) == 0);
  size_t started = 0;
  while (started < kThreads && pthread_create(&threads[started], &attributes, Work,
                                              reinterpret_cast<void*>(started)) == 0) {
    ++started;
    if (started == kQuietThreads) {
      while (ready.load() < started) sched_yield();
    }
  }
  while (ready.load() < started) sched_yield();
  PROGRAM_CHECK(pthread_mutex_unlock(&gate) == 0);
  for (unsigned i = 0; i < started; ++i) PROGRAM_CHECK(pthread_join(threads[i], nullptr) == 0);
  if (started < kThreads) return ollamatrace::programs::kSkip;
  puts("done");
  return 0;
}
