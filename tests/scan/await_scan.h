// A program that is looked at by ollama-leakview or by valgrind, whichever runs it.
#ifndef OLLAMATRACE_TESTS_SCAN_AWAIT_SCAN_H_
#define OLLAMATRACE_TESTS_SCAN_AWAIT_SCAN_H_

#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#if __has_include(<valgrind/memcheck.h>)
#include <valgrind/memcheck.h>
#define OLLAMATRACE_HAVE_VALGRIND 1
#endif

namespace ollamatrace {

// Overwrites what earlier calls left below the stack pointer, so that no word of theirs lies in a
// frame to come.
__attribute__((noinline)) inline void WipeStack() {
  volatile char below[64 << 10];
  for (size_t i = 0; i < sizeof below; ++i) below[i] = 0;
}

// The registers that a called function need not keep: what it was last asked for may be in them.
__attribute__((always_inline)) inline void WipeRegisters() {
#if defined(__x86_64__)
  __asm__ volatile(
      "xor %%eax, %%eax\n xor %%ecx, %%ecx\n xor %%edx, %%edx\n xor %%esi, %%esi\n"
      "xor %%edi, %%edi\n xor %%r8d, %%r8d\n xor %%r9d, %%r9d\n xor %%r10d, %%r10d\n"
      "xor %%r11d, %%r11d\n pxor %%xmm0, %%xmm0\n pxor %%xmm1, %%xmm1\n pxor %%xmm2, %%xmm2\n"
      "pxor %%xmm3, %%xmm3\n pxor %%xmm4, %%xmm4\n pxor %%xmm5, %%xmm5\n pxor %%xmm6, %%xmm6\n"
      "pxor %%xmm7, %%xmm7\n pxor %%xmm8, %%xmm8\n pxor %%xmm9, %%xmm9\n pxor %%xmm10, %%xmm10\n"
      "pxor %%xmm11, %%xmm11\n pxor %%xmm12, %%xmm12\n pxor %%xmm13, %%xmm13\n"
      "pxor %%xmm14, %%xmm14\n pxor %%xmm15, %%xmm15\n" ::
          : "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2",
            "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12",
            "xmm13", "xmm14", "xmm15", "cc");
#endif
}

inline void WriteAll(const char* text) {
  if (write(STDOUT_FILENO, text, strlen(text)) < 0) _exit(3);
}

// Under valgrind: writes "lost BLOCKS BYTES" of what is definitely or indirectly lost, as valgrind
// counts them now. Otherwise: "ready", then waits until there is a line on stdin. No allocations.
__attribute__((noinline)) inline void AwaitScan() {
#ifdef OLLAMATRACE_HAVE_VALGRIND
  if (RUNNING_ON_VALGRIND) {
    unsigned long bytes = 0, blocks = 0;
    [[maybe_unused]] unsigned long other = 0;  // possibly lost, reachable, suppressed
    WipeRegisters();
    VALGRIND_DO_LEAK_CHECK;
    VALGRIND_COUNT_LEAKS(bytes, other, other, other);
    VALGRIND_COUNT_LEAK_BLOCKS(blocks, other, other, other);
    char line[64];
    snprintf(line, sizeof line, "lost %lu %lu\n", blocks, bytes);
    WriteAll(line);
    return;
  }
#endif
  WriteAll("ready\n");
  WipeRegisters();
  char byte;
  while (read(STDIN_FILENO, &byte, 1) == 1 && byte != '\n') {
  }
}

// `run` leaves nothing in the frames and registers of what waits.
inline void RunAndAwaitScan(void (*run)()) {
  void (*volatile called)() = run;
  // The library's thread starts with some hundred allocations.
  for (size_t i = 0; i < 2000; ++i) free(malloc(i));
  called();
  WipeStack();
  AwaitScan();
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_TESTS_SCAN_AWAIT_SCAN_H_
