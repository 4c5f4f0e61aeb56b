// lost_blocks NAME: loses blocks, or keeps them by a pointer in an unusual place; then waits to be
// looked at. Each scenario loses what its name says, and nothing else.
#include <dlfcn.h>
#include <pthread.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "tests/scan/await_scan.h"

namespace {

using ollamatrace::WipeStack;

// What the compiler cannot see through; it forgets.
void* volatile sink;
void Touch(void* block) {
  sink = block;
  sink = nullptr;
}

// Not inlined: what it returned is then in no register that its caller keeps.
__attribute__((noinline)) void* New(size_t size) {
  void* const block = malloc(size);
  memset(block, 0, size);
  Touch(block);
  return block;
}

void** g_table;
void* volatile g_global;
thread_local void* volatile t_local;

void Plain() {
  for (size_t i = 0; i < 100; ++i) New(100 + i);
  g_global = New(77);
}

// Chains of ten, of which the first is lost.
void Chains() {
  for (int chain = 0; chain < 50; ++chain) {
    void** next = nullptr;
    for (size_t i = 0; i < 10; ++i) {
      void** const node = static_cast<void**>(New(16 + 8 * i));
      node[1] = next;
      next = node;
    }
  }
}

void Circles() {
  for (int circle = 0; circle < 30; ++circle) {
    void** const a = static_cast<void**>(New(32));
    void** const b = static_cast<void**>(New(48));
    void** const c = static_cast<void**>(New(64));
    a[0] = b;
    b[0] = c;
    c[0] = a;
  }
}

struct Node {
  std::shared_ptr<Node> other;
  std::string name;
};

void SharedPointers() {
  for (int i = 0; i < 40; ++i) {
    auto a = std::make_shared<Node>();
    auto b = std::make_shared<Node>();
    a->name = std::string(100, 'a');
    b->name = std::string(200, 'b');
    a->other = b;
    b->other = a;
  }
}

void Containers() {
  new std::map<int, std::string>{{1, std::string(50, 'x')}, {2, std::string(60, 'y')}};
  new std::list<int>{1, 2, 3, 4};
  auto* const kept = new std::vector<std::unique_ptr<int>>;
  for (int i = 0; i < 100; ++i) kept->push_back(std::make_unique<int>(i));
  for (int i = 0; i < 100; i += 10) static_cast<void>((*kept)[static_cast<size_t>(i)].release());
  g_global = kept;
}

// A table on the heap, of which every third entry is forgotten.
void Table() {
  g_table = static_cast<void**>(New(300 * sizeof(void*)));
  for (size_t i = 0; i < 300; ++i) g_table[i] = New(40 + i);
  for (size_t i = 0; i < 300; i += 3) g_table[i] = nullptr;
}

// Only into the middle: possibly lost, and not counted.
void Interior() {
  g_table = static_cast<void**>(New(50 * sizeof(void*)));
  for (size_t i = 0; i < 50; ++i) g_table[i] = static_cast<char*>(New(500)) + 100;
  for (size_t i = 0; i < 7; ++i) New(60);
}

void ThreadLocal() {
  t_local = New(1234);
  New(4321);
}

void Mapping() {
  void** const page = static_cast<void**>(
      mmap(nullptr, 1 << 16, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  if (page == MAP_FAILED) abort();
  page[1000] = New(555);
  New(556);
}

// Most of it was read and never written to: the kernel's page of zeros.
void Sparse() {
  static constexpr size_t kBytes = 8 << 20;
  volatile char* const kept = static_cast<volatile char*>(calloc(1, kBytes));
  for (size_t at = 0; at < kBytes; at += 4096) {
    if (kept[at] != 0) abort();
  }
  g_global = const_cast<char*>(kept);
  static_cast<void**>(g_global)[700000] = New(333);
  New(334);
}

void LargeBlocks() {
  void** const kept = static_cast<void**>(New(5 << 20));
  kept[600000] = New(3 << 20);
  g_global = kept;
  void** const lost = static_cast<void**>(New(4 << 20));
  lost[500000] = New(2 << 20);
}

pthread_barrier_t g_barrier;

// Each thread holds one block on its stack, one in thread-local storage, and has lost one.
void Threads() {
  pthread_barrier_init(&g_barrier, nullptr, 5);
  for (size_t i = 0; i < 4; ++i) {
    std::thread([i] {
      void* volatile on_stack = New(1000 + i);
      t_local = New(2000 + i);
      New(3000 + i);
      WipeStack();
      ollamatrace::WipeRegisters();
      pthread_barrier_wait(&g_barrier);
      ollamatrace::WipeRegisters();
      pause();
      Touch(on_stack);
    }).detach();
  }
  pthread_barrier_wait(&g_barrier);
}

// What a thread that ended kept on its stack and in its storage is lost.
void ThreadsThatEnded() {
  for (size_t i = 0; i < 8; ++i) {
    std::thread([i] {
      void* volatile on_stack = New(1000 + i);
      t_local = New(2000 + i);
      Touch(on_stack);
    }).join();
  }
}

void Freed() {
  // A pointer in a block that was freed keeps nothing.
  void** const holder = static_cast<void**>(New(4000));
  holder[300] = New(90);
  Touch(holder);
  free(holder);
}

void Unloaded() {
  void* const library = dlopen("libm.so.6", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) abort();
  New(64);
  if (dlclose(library) != 0) abort();
}

// A coroutine that waits, on a stack of its own that is a block.
ucontext_t g_main, g_coroutine;
void Coroutine() {
  static constexpr size_t kStackBytes = 64 << 10;
  char* const stack = static_cast<char*>(New(kStackBytes));
  g_global = stack;
  getcontext(&g_coroutine);
  g_coroutine.uc_stack.ss_sp = stack;
  g_coroutine.uc_stack.ss_size = kStackBytes;
  g_coroutine.uc_link = nullptr;
  makecontext(
      &g_coroutine,
      [] {
        void* volatile held = New(777);
        New(778);
        swapcontext(&g_coroutine, &g_main);
        Touch(held);
      },
      0);
  swapcontext(&g_main, &g_coroutine);
}

}  // namespace

int main(int argc, char** argv) {
  static constexpr std::pair<const char*, void (*)()> kScenarios[] = {
      {"plain", Plain},
      {"chains", Chains},
      {"circles", Circles},
      {"shared_pointers", SharedPointers},
      {"containers", Containers},
      {"table", Table},
      {"interior", Interior},
      {"thread_local", ThreadLocal},
      {"mapping", Mapping},
      {"sparse", Sparse},
      {"large_blocks", LargeBlocks},
      {"threads", Threads},
      {"threads_that_ended", ThreadsThatEnded},
      {"freed", Freed},
      {"unloaded", Unloaded},
      {"coroutine", Coroutine}};
  for (const auto& [name, run] : kScenarios) {
    if (argc == 2 && strcmp(argv[1], name) == 0) {
      ollamatrace::RunAndAwaitScan(run);
      // The threads that wait do not see the end of what they use.
      _exit(0);
    }
  }
  return 2;
}
