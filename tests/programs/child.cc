// What the process tests start: keeps argv[1] blocks, says that it ran, and leaves with the status
// argv[2].
#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInStarted(int count) {
  for (int i = 0; i < count; ++i) Opaque(malloc(61));
}

int main(int argc, char** argv) {
  PROGRAM_CHECK(argc == 3);
  const int count = atoi(argv[1]);
  KeepInStarted(count);
  ExpectSurvivors("KeepInStarted", static_cast<size_t>(count), static_cast<size_t>(count) * 61);
  printf("child kept %d\n", count);
  return atoi(argv[2]);
}
