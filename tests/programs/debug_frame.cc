// A program without .eh_frame, built with -fno-asynchronous-unwind-tables -fomit-frame-pointer -g,
// as its CMake target says: its frames are in .debug_frame alone, which is in no loaded segment.
#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInnermost() { Opaque(malloc(51)); }

PROGRAM_KEEPER void KeepInMiddle(int depth) {
#if defined(__x86_64__)
  asm volatile("mov $1, %%ebp" : : : "rbp");  // so that no frame pointer leads on
#endif
  if (depth == 0) {
    KeepInnermost();
  } else {
    KeepInMiddle(depth - 1);
  }
  asm volatile("");
}

PROGRAM_KEEPER void KeepOutermost() {
  for (int depth = 0; depth < 4; ++depth) KeepInMiddle(depth);
  asm volatile("");
}

int main() {
  KeepOutermost();
  ExpectSurvivors("KeepInnermost", 4, 4 * 51);
  ExpectSurvivors("KeepInMiddle", 4, 4 * 51);
  ExpectSurvivors("KeepOutermost", 4, 4 * 51);
  puts("done");
  return 0;
}
