// Pairs of malloc and free below deep stacks, as fast as they go (P1, P2, P3, P6, P9).
//
//   bench_churn [--threads=1] [--pairs=1000000] [--stacks=1000] [--shape=every|inner]
//               [--order=random|turn] [--frames=25] [--live=0] [--survive=0]
//               [--report=0]
//
// Prints one line, "loop_ns T": the wall time from the first pair of any thread to the last one's
// end. Each thread does `pairs` pairs. With one thread it is the main thread that does them. A
// stack has `frames` frames, from the function that calls malloc to _start, or to clone in other
// threads. `random`: each pair has one of the stacks, drawn evenly; `turn`: one after the other.
// A block is freed at once, or, with `live`, when its thread has allocated so many more;
// with `survive`, one in so many is never freed. With `report`, the first thread, each time it has
// done so many more, prints a line "pairs N" and waits for a byte from standard input, or its end.
#include <errno.h>
#include <pthread.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>
#include <vector>

#include "tests/bench/deep_calls.h"
#include "tests/bench/options.h"

namespace ollamatrace::bench {
namespace {

// Frames that are not deep_calls': the innermost one is its caller's.
constexpr int kMainThreadFrames = 6;   // innermost; Churn, main, two of libc's, _start
constexpr int kOtherThreadFrames = 4;  // innermost; Churn, start_thread, clone3
constexpr size_t kBlockBytes = 64;

struct Options {
  uint64_t threads = 1;
  uint64_t pairs = 1'000'000;
  uint64_t stacks = 1000;
  uint64_t frames = 25;
  uint64_t live = 0;
  uint64_t survive = 0;
  uint64_t report = 0;
  Shape shape = Shape::kEveryFrame;
  bool random = true;
};

struct Thread {
  const Options* options;
  pthread_barrier_t* together;
  int depth;
  uint64_t random;
  bool reports;
  uint64_t begin_ns = 0;
  uint64_t end_ns = 0;
};

uint64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<uint64_t>(time.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(time.tv_nsec);
}

void Report(uint64_t pairs) {
  // No stream: it would allocate.
  dprintf(STDOUT_FILENO, "pairs %llu\n", static_cast<unsigned long long>(pairs));
  char byte;
  while (read(STDIN_FILENO, &byte, 1) < 0 && errno == EINTR) {
  }
}

[[gnu::noipa]] void* Churn(void* argument) {
  Thread* const thread = static_cast<Thread*>(argument);
  const Options options = *thread->options;
  const int depth = thread->depth;
  uint64_t random = thread->random;
  uint64_t turn = 0;
  std::vector<void*> ring(options.live, nullptr);
  uint64_t oldest = 0;
  uint64_t until_survivor = options.survive;
  uint64_t until_report = thread->reports ? options.report : 0;
  pthread_barrier_wait(thread->together);
  thread->begin_ns = Now();
  for (uint64_t i = 0; i < options.pairs; ++i) {
    uint64_t stack;
    if (until_report != 0 && --until_report == 0) {
      until_report = options.report;
      Report(i + 1);
    }
    if (options.random) {
      random = random * 6364136223846793005 + 1442695040888963407;
      stack = (random >> 32) * options.stacks >> 32;
    } else {
      stack = turn;
      turn = turn + 1 == options.stacks ? 0 : turn + 1;
    }
    void* block = AllocateBelow(PathOfStack(stack, depth, options.shape), depth, kBlockBytes);
    if (until_survivor != 0 && --until_survivor == 0) {
      until_survivor = options.survive;
      continue;
    }
    if (options.live != 0) {
      std::swap(block, ring[oldest]);
      oldest = oldest + 1 == options.live ? 0 : oldest + 1;
    }
    free(block);
  }
  for (void* block : ring) free(block);
  thread->end_ns = Now();
  return nullptr;
}

int Run(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const bool known =
        NumberOption(argv[i], "--threads=", 1, 64, &options.threads) ||
        NumberOption(argv[i], "--pairs=", 1, UINT64_MAX, &options.pairs) ||
        NumberOption(argv[i], "--stacks=", 1, uint64_t{1} << 20, &options.stacks) ||
        NumberOption(argv[i], "--frames=", 20, 60, &options.frames) ||
        NumberOption(argv[i], "--live=", 0, 10'000'000, &options.live) ||
        NumberOption(argv[i], "--survive=", 0, UINT64_MAX, &options.survive) ||
        NumberOption(argv[i], "--report=", 0, UINT64_MAX, &options.report) ||
        ChoiceOption(argv[i], "--shape=every", "--shape=inner", &options.shape, Shape::kEveryFrame,
                     Shape::kInnerTen) ||
        ChoiceOption(argv[i], "--order=random", "--order=turn", &options.random, true, false);
    if (!known) {
      fprintf(stderr, "bench_churn: '%s' is no option, or its value is out of range\n", argv[i]);
      return 2;
    }
  }
  const int depth = static_cast<int>(options.frames) - kMainThreadFrames;
  if (options.shape == Shape::kInnerTen && options.stacks > 1024) {
    fprintf(stderr, "bench_churn: --shape=inner has 1024 stacks at most\n");
    return 2;
  }
  if (options.stacks > uint64_t{1} << (depth + 1)) {
    fprintf(stderr, "bench_churn: too few frames for so many stacks\n");
    return 2;
  }

  pthread_barrier_t together;
  pthread_barrier_init(&together, nullptr, static_cast<unsigned>(options.threads));
  std::vector<Thread> threads;
  for (uint64_t i = 0; i < options.threads; ++i) {
    const int of_thread = i == 0 ? kMainThreadFrames : kOtherThreadFrames;
    threads.push_back(
        {&options, &together, static_cast<int>(options.frames) - of_thread, 2 * i + 1, i == 0});
  }
  std::vector<pthread_t> ids(threads.size());
  for (size_t i = 1; i < threads.size(); ++i) {
    if (pthread_create(&ids[i], nullptr, Churn, &threads[i]) != 0) {
      fprintf(stderr, "bench_churn: cannot start thread %zu\n", i);
      return 1;
    }
  }
  Churn(&threads[0]);
  uint64_t begin_ns = threads[0].begin_ns;
  uint64_t end_ns = threads[0].end_ns;
  for (size_t i = 1; i < threads.size(); ++i) {
    pthread_join(ids[i], nullptr);
    begin_ns = std::min(begin_ns, threads[i].begin_ns);
    end_ns = std::max(end_ns, threads[i].end_ns);
  }
  printf("loop_ns %llu\n", static_cast<unsigned long long>(end_ns - begin_ns));
  return 0;
}

}  // namespace
}  // namespace ollamatrace::bench

int main(int argc, char** argv) { return ollamatrace::bench::Run(argc, argv); }
