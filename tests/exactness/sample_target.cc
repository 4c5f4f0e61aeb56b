// sample_target [free]: threads allocate blocks of known sizes below functions of known names, and
// say on stdout how many: "FUNCTION allocations bytes frees live_blocks live_bytes" a line. Some
// blocks are reallocated, some freed by another thread than the one that allocated them. With
// "free", nothing is left in the end.

#include <pthread.h>

#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#define KEEPER extern "C" __attribute__((noinline, used, visibility("default")))

namespace {

constexpr int kThreads = 4;

// What one function did; blocks that realloc gave count for the function that called it.
struct Ledger {
  const char* name;
  std::atomic<int64_t> allocations, bytes, frees, live_blocks, live_bytes;

  void Born(size_t size) {
    ++allocations;
    bytes += static_cast<int64_t>(size);
    ++live_blocks;
    live_bytes += static_cast<int64_t>(size);
  }
  void Died(size_t size) {
    ++frees;
    --live_blocks;
    live_bytes -= static_cast<int64_t>(size);
  }
};

template <typename T>
T* Opaque(T* pointer) {
  __asm__ volatile("" : "+r"(pointer) : : "memory");
  return pointer;
}

}  // namespace

// One function, and so one stack, for each size: the tail call is kept from being one.
#define SIZES(X) X(16) X(100) X(1000) X(5000) X(20000) X(100000) X(1048576)
#define DEFINE(size)                                         \
  KEEPER void* Keep##size() { return Opaque(malloc(size)); } \
  KEEPER void* Pass##size() { return Opaque(malloc(size)); } \
  KEEPER void* Grow##size(void* block) { return Opaque(realloc(block, size)); }
SIZES(DEFINE)
#undef DEFINE

namespace {

struct Kind {
  size_t size;
  void* (*keep)();
  void* (*pass)();
  void* (*grow)(void*);
  Ledger kept, passed, grown;
};

Kind kinds[] = {
#define KIND(size)                     \
  {size,                               \
   Keep##size,                         \
   Pass##size,                         \
   Grow##size,                         \
   {"Keep" #size, {}, {}, {}, {}, {}}, \
   {"Pass" #size, {}, {}, {}, {}, {}}, \
   {"Grow" #size, {}, {}, {}, {}, {}}},
    SIZES(KIND)
#undef KIND
};
constexpr int kKinds = sizeof kinds / sizeof kinds[0];

struct Held {
  void* block;
  size_t size;
  Ledger* owner;
};
// Blocks on their way to another thread.
pthread_mutex_t passing = PTHREAD_MUTEX_INITIALIZER;
std::vector<Held> on_the_way;

void Free(const Held& held) {
  held.owner->Died(held.size);
  free(held.block);
}

void PassOn(const Held& held) {
  Held out = {};
  pthread_mutex_lock(&passing);
  on_the_way.push_back(held);
  if (on_the_way.size() > 200) {
    // Mostly another thread's: they were pushed in turn.
    out = on_the_way[on_the_way.size() / 2];
    on_the_way[on_the_way.size() / 2] = on_the_way.back();
    on_the_way.pop_back();
  }
  pthread_mutex_unlock(&passing);
  if (out.block != nullptr) Free(out);
}

// About as many bytes of each size, from all threads together.
int RoundsOf(size_t size) {
  const int rounds = static_cast<int>((12u << 20) / size);
  return rounds < 48 ? 48 : rounds > 60'000 ? 60'000 : rounds;
}

void* Work(void* result) {
  auto* const left = static_cast<std::vector<Held>*>(result);
  for (int k = 0; k < kKinds; ++k) {
    Kind& kind = kinds[k];
    Kind& larger = kinds[k + 1 < kKinds ? k + 1 : 0];
    for (int i = 0; i < RoundsOf(kind.size); ++i) {
      Held held = {kind.keep(), kind.size, &kind.kept};
      if (held.block == nullptr) abort();
      held.owner->Born(held.size);
      if (i % 8 == 7) {
        // To more, to less (the last kind grows to the first's size), as large.
        Kind& to = i % 16 == 7 ? larger : kind;
        held.owner->Died(held.size);
        held = {to.grow(held.block), to.size, &to.grown};
        held.owner->Born(held.size);
      }
      if (i % 3 == 0) {
        left->push_back(held);
      } else {
        Free(held);
      }
      if (i % 2 == 0) {
        const Held passed = {kind.pass(), kind.size, &kind.passed};
        passed.owner->Born(passed.size);
        if (i % 8 == 0) {
          left->push_back(passed);
        } else {
          PassOn(passed);
        }
      }
    }
  }
  return nullptr;
}

void Print(const Ledger& ledger) {
  printf("%s %lld %lld %lld %lld %lld\n", ledger.name, static_cast<long long>(ledger.allocations),
         static_cast<long long>(ledger.bytes), static_cast<long long>(ledger.frees),
         static_cast<long long>(ledger.live_blocks), static_cast<long long>(ledger.live_bytes));
}

}  // namespace

int main(int count, char** arguments) {
  const bool free_all = count > 1 && strcmp(arguments[1], "free") == 0;
  static std::vector<Held> left[kThreads];
  pthread_t threads[kThreads];
  for (int i = 0; i < kThreads; ++i) {
    if (pthread_create(&threads[i], nullptr, Work, &left[i]) != 0) return 1;
  }
  for (pthread_t thread : threads) pthread_join(thread, nullptr);
  if (free_all) {
    for (const std::vector<Held>& of_thread : left) {
      for (const Held& held : of_thread) Free(held);
    }
    for (const Held& held : on_the_way) Free(held);
  }
  for (const Kind& kind : kinds) {
    Print(kind.kept);
    Print(kind.passed);
    Print(kind.grown);
  }
  return 0;
}
