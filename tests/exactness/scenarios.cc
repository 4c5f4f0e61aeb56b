// scenarios NAME: a known use of the heap that leaves blocks behind, the same in every run;
// compared with valgrind's "in use at exit", block for block. `scenarios NAME wait` waits at the
// end to be looked at.
#include <dlfcn.h>
#include <malloc.h>
#include <pthread.h>
#include <regex.h>
#include <unistd.h>
#include <wchar.h>

#include <algorithm>
#include <clocale>
#include <condition_variable>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <sstream>
#include <string>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "tests/scan/await_scan.h"

namespace {

// What the compiler cannot see through.
void* volatile sink;

void Keep(void* block) { sink = block; }

// More than there is.
volatile size_t huge = SIZE_MAX / 4;

// Every allocation function of C, sizes of no and of many bytes.
void C() {
  Keep(malloc(0));
  Keep(malloc(1));
  Keep(malloc(200000));
  Keep(malloc(3000000));
  Keep(calloc(7, 11));
  Keep(calloc(0, 8));
  void* aligned = nullptr;
  if (posix_memalign(&aligned, 256, 1000) != 0) abort();
  Keep(aligned_alloc(64, 640));
  Keep(memalign(4096, 5000));
  Keep(valloc(333));
  Keep(reallocarray(nullptr, 21, 3));
  free(malloc(50));
  free(nullptr);
  if (malloc(huge) != nullptr) abort();
  if (calloc(huge, 8) != nullptr) abort();
}

void Realloc() {
  Keep(realloc(nullptr, 10));
  Keep(realloc(malloc(10), 100000));
  Keep(realloc(malloc(100000), 10));
  Keep(realloc(malloc(500000), 900000));  // By mremap, in glibc.
  Keep(realloc(malloc(24), 25));
  Keep(realloc(malloc(24), 0));
  void* kept = malloc(77);
  if (realloc(kept, huge) != nullptr) abort();  // Fails: the block lives on.
  char* grown = nullptr;
  for (size_t size = 1; size < 3000; ++size) {
    grown = static_cast<char*>(realloc(grown, size * 3));
    grown[0] = 1;
  }
  Keep(grown);
}

struct alignas(128) Wide {
  char bytes[384];
};

void Cxx() {
  Keep(new int(1));
  Keep(new char[1001]);
  Keep(new Wide);
  Keep(new Wide[3]);
  Keep(new (std::nothrow) long[5]);
  delete new std::string(1000, 'x');
  delete[] new Wide[2];
  struct WithDestructor {
    ~WithDestructor() { Keep(this); }
    int value = 0;
  };
  Keep(new WithDestructor[9]);  // A cookie with the count stands before them.
  try {
    throw std::string(300, 'y');
  } catch (const std::string& text) {
    Keep(new std::string(text));
  }
}

void Containers() {
  auto* vector = new std::vector<int>;
  for (int i = 0; i < 100000; ++i) vector->push_back(i);
  auto* map = new std::map<std::string, std::vector<char>>;
  auto* hashes = new std::unordered_map<uint64_t, std::string>;
  auto* queue = new std::deque<std::unique_ptr<int>>;
  for (int i = 0; i < 2000; ++i) {
    (*map)["a key that is too long for the string itself " + std::to_string(i)].resize(
        static_cast<size_t>(i));
    hashes->emplace(i, std::string(static_cast<size_t>(i % 100), 'x'));
    queue->push_back(std::make_unique<int>(i));
    if (i % 3 == 0) queue->pop_front();
    if (i % 5 == 0) map->erase(map->begin());
  }
  std::ostringstream text;
  for (int i = 0; i < 1000; ++i) text << i << ' ';
  Keep(new std::function<std::string()>([copy = text.str()] { return copy; }));
  std::sort(vector->begin(), vector->end(), std::greater<>());
  std::stable_sort(vector->begin(), vector->end());  // Asks for a buffer, gives it back.
}

// libc's own blocks: buffers of files left open, what its functions return and what they keep.
void Libc() {
  FILE* open = fopen("/dev/null", "w");
  fprintf(open, "buffered");
  FILE* closed = fopen("/dev/null", "w");
  fputs("x", closed);
  fclose(closed);
  char* text = nullptr;
  if (asprintf(&text, "%d %s", 12, "parts") < 0) abort();
  Keep(strdup(text));
  Keep(strndup(text, 3));
  Keep(wcsdup(L"wide"));
  char* line = nullptr;
  size_t size = 0;
  FILE* self = fopen("/proc/self/comm", "r");
  if (getline(&line, &size, self) < 0) abort();
  char* stream = nullptr;
  size_t stream_size = 0;
  FILE* memory = open_memstream(&stream, &stream_size);
  for (int i = 0; i < 5000; ++i) fprintf(memory, "%d\n", i);
  fclose(memory);
  setlocale(LC_ALL, "C.UTF-8");
  regex_t kept, freed;
  if (regcomp(&kept, "(a|b)*[[:digit:]]+$", REG_EXTENDED) != 0) abort();
  if (regcomp(&freed, "x*", 0) != 0) abort();
  regfree(&freed);
  setenv("EXACTNESS_VARIABLE", "a value", 1);
  Keep(realpath("/proc/self/../../dev/null", nullptr));
  char* values = static_cast<char*>(malloc(1 << 16));
  for (int i = 0; i < 1 << 16; ++i) values[i] = static_cast<char>(i * 7);
  qsort(values, 1 << 12, 16, [](const void* a, const void* b) { return memcmp(a, b, 16); });
  std::atexit([] { Keep(malloc(4242)); });
}

// 200000 blocks come and go in a fixed pseudo-random order; a tenth stays.
void Churn() {
  uint64_t random = 88172645463325252u;
  const auto next = [&] {
    random ^= random << 13;
    random ^= random >> 7;
    return random ^= random << 17;
  };
  std::vector<void*> blocks(20000);
  for (int i = 0; i < 400000; ++i) {
    void*& block = blocks[next() % blocks.size()];
    if (block == nullptr) {
      block = malloc(next() % 3000);
    } else if (next() % 4 == 0) {
      block = realloc(block, 1 + next() % 3000);
    } else {
      free(block);
      block = nullptr;
    }
  }
}

// Threads one after the other: what they leave does not depend on their order.
void ThreadsInTurn() {
  for (int i = 0; i < 20; ++i) {
    std::thread([i] {
      for (int n = 0; n < 1000; ++n) {
        Keep(malloc(static_cast<size_t>(n)));
        free(malloc(static_cast<size_t>(n) + 5));
      }
      Keep(new std::string(static_cast<size_t>(100 + i), 'x'));
    }).join();
  }
}

// Threads side by side, blocks freed by another thread than their maker.
void ThreadsTogether() {
  constexpr int kThreads = 6;
  std::vector<std::vector<void*>> made(kThreads);
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    made[static_cast<size_t>(t)].reserve(5000);
    threads.emplace_back([&, t] {
      for (size_t n = 0; n < 5000; ++n) {
        made[static_cast<size_t>(t)].push_back(malloc(n % 700 + static_cast<size_t>(t)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  threads.clear();
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      std::vector<void*>& others = made[static_cast<size_t>((t + 1) % kThreads)];
      for (size_t n = 0; n < 5000; ++n) {
        if (n % 10 != 0) free(others[n]);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// The process ends while threads still hold blocks and their stacks.
void ThreadsLeft() {
  static pthread_barrier_t barrier;
  pthread_barrier_init(&barrier, nullptr, 4);
  for (int i = 0; i < 3; ++i) {
    std::thread([i] {
      Keep(malloc(static_cast<size_t>(1000 + i)));
      pthread_barrier_wait(&barrier);
      pause();
    }).detach();
  }
  pthread_barrier_wait(&barrier);
}

void Dlopen() {
  for (const char* name : {"libm.so.6", "libresolv.so.2", "libutil.so.1"}) {
    void* module = dlopen(name, RTLD_NOW);
    if (module == nullptr) abort();
    if (name[3] == 'u') dlclose(module);
  }
  if (dlopen("libnothing-of-this-name.so", RTLD_NOW) != nullptr) abort();
  Keep(dlerror());
}

// Ends without running anything of libc's exit.
void UnderscoreExit() {
  Keep(malloc(123));
  free(malloc(124));
  _exit(0);
}

}  // namespace

int main(int argc, char** argv) {
  static constexpr std::pair<const char*, void (*)()> kScenarios[] = {
      {"c", C},
      {"realloc", Realloc},
      {"cxx", Cxx},
      {"containers", Containers},
      {"libc", Libc},
      {"churn", Churn},
      {"threads_in_turn", ThreadsInTurn},
      {"threads_together", ThreadsTogether},
      {"threads_left", ThreadsLeft},
      {"dlopen", Dlopen},
      {"underscore_exit", UnderscoreExit}};
  for (const auto& [name, run] : kScenarios) {
    if (argc >= 2 && strcmp(argv[1], name) == 0) {
      if (argc == 3 && strcmp(argv[2], "wait") == 0) {
        ollamatrace::RunAndAwaitScan(run);
      } else {
        run();
      }
      return 0;
    }
  }
  return 2;
}
