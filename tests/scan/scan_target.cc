// scan_target MIB [THREADS]: holds as many MiB in blocks, of which some are lost, and allocates and
// frees in threads for as long as it is left alone. Counts what it did: a line on stdin is answered
// with the number of rounds of each thread. "fork": forks a child that ends at once; "unmap": gives
// back all that it holds; "exit": ends.
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr size_t kBlockBytes = 64 << 10;
constexpr int kMaxThreads = 16;

void* volatile g_forget;
std::atomic<unsigned long> g_rounds[kMaxThreads];

void Work(std::atomic<unsigned long>* rounds) {
  void* blocks[64] = {};
  for (unsigned long i = 0;; ++i) {
    void*& block = blocks[i % 64];
    free(block);
    block = malloc(16 + i % 3000);
    static_cast<char*>(block)[0] = 1;
    rounds->store(i + 1, std::memory_order_relaxed);
  }
}

__attribute__((noinline)) void LoseSome() {
  for (int i = 0; i < 10; ++i) {
    g_forget = malloc(1000);
    memset(g_forget, 0, 1000);
  }
  g_forget = nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  const size_t count = strtoul(argv[1], nullptr, 10) * ((1u << 20) / kBlockBytes);
  const int threads = argc > 2 ? atoi(argv[2]) : 0;
  if (threads > kMaxThreads) return 2;
  static std::vector<void*> held;
  held.reserve(count);
  for (size_t i = 0; i < count; ++i) {
    held.push_back(malloc(kBlockBytes));
    memset(held.back(), 0x11, kBlockBytes);
  }
  LoseSome();
  for (int i = 0; i < threads; ++i) std::thread(Work, &g_rounds[i]).detach();
  char order[64];
  do {
    unsigned long least = threads > 0 ? ~0ul : 0;
    for (int i = 0; i < threads; ++i) least = std::min(least, g_rounds[i].load());
    printf("%lu\n", least);
    fflush(stdout);
    if (fgets(order, sizeof order, stdin) == nullptr || strcmp(order, "exit\n") == 0) break;
    if (strcmp(order, "fork\n") == 0) {
      const pid_t child = fork();
      if (child == 0) _exit(0);
      if (child < 0 || waitpid(child, nullptr, 0) != child) return 3;
      // There is nobody else to wait for.
      if (waitpid(-1, nullptr, WNOHANG) != -1) return 4;
    } else if (strcmp(order, "unmap\n") == 0) {
      for (void* const block : held) free(block);
      held.clear();
    }
  } while (true);
  _exit(0);
}
