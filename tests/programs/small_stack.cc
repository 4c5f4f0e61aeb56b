// malloc on small stacks: the smallest thread, a signal's alternate stack, a coroutine; each with a
// guard page below it.
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInSmallThread() { Opaque(malloc(21)); }
PROGRAM_KEEPER void KeepOnAlternateStack() { Opaque(malloc(22)); }
PROGRAM_KEEPER void KeepInCoroutine() { Opaque(malloc(23)); }

namespace {

constexpr size_t kGuard = 64 * 1024;
ucontext_t main_context;
ucontext_t coroutine_context;

// A stack whose overflow is a SIGSEGV.
char* GuardedStack(size_t size) {
  auto* base = static_cast<char*>(
      mmap(nullptr, kGuard + size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
  PROGRAM_CHECK(base != MAP_FAILED && mprotect(base, kGuard, PROT_NONE) == 0);
  return base + kGuard;
}

size_t PageRounded(size_t size) { return (size + 4095) & ~size_t{4095}; }

void Allocate(void (*keep)()) {
  for (int i = 0; i < 100; ++i) {
    keep();
    free(Opaque(realloc(Opaque(calloc(1, 100)), 300)));
  }
}

void* SmallThread(void*) {
  Allocate(KeepInSmallThread);
  return nullptr;
}

void Handler(int) { Allocate(KeepOnAlternateStack); }

void Coroutine() {
  Allocate(KeepInCoroutine);
  PROGRAM_CHECK(swapcontext(&coroutine_context, &main_context) == 0);
}

}  // namespace

int main() {
  // The first call of the process, too, is made on a small stack.
  const auto minimum = static_cast<size_t>(sysconf(_SC_THREAD_STACK_MIN));
  const size_t thread_stack = PageRounded(minimum < 16384 ? 16384 : minimum);
  pthread_attr_t attributes;
  PROGRAM_CHECK(pthread_attr_init(&attributes) == 0);
  for (int i = 0; i < 10; ++i) {
    PROGRAM_CHECK(pthread_attr_setstack(&attributes, GuardedStack(thread_stack), thread_stack) ==
                  0);
    pthread_t thread;
    PROGRAM_CHECK(pthread_create(&thread, &attributes, SmallThread, nullptr) == 0);
    PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  }

  const long asked = sysconf(_SC_SIGSTKSZ);
  const size_t signal_stack = PageRounded(asked < 8192 ? 8192 : static_cast<size_t>(asked));
  stack_t stack = {};
  stack.ss_sp = GuardedStack(signal_stack);
  stack.ss_size = signal_stack;
  PROGRAM_CHECK(sigaltstack(&stack, nullptr) == 0);
  struct sigaction action = {};
  action.sa_handler = Handler;
  action.sa_flags = SA_ONSTACK;
  PROGRAM_CHECK(sigaction(SIGUSR2, &action, nullptr) == 0);
  PROGRAM_CHECK(raise(SIGUSR2) == 0);

  PROGRAM_CHECK(getcontext(&coroutine_context) == 0);
  coroutine_context.uc_stack.ss_sp = GuardedStack(8192);
  coroutine_context.uc_stack.ss_size = 8192;
  coroutine_context.uc_link = &main_context;
  makecontext(&coroutine_context, Coroutine, 0);
  PROGRAM_CHECK(swapcontext(&main_context, &coroutine_context) == 0);

  ExpectSurvivors("KeepInSmallThread", 1000, 21000);
  ExpectSurvivors("KeepOnAlternateStack", 100, 2200);
  ExpectSurvivors("KeepInCoroutine", 100, 2300);
  puts("done");
  return 0;
}
