// One process becomes the next program again and again: a trace for each image. At the end without
// an environment.
#include <signal.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectProcesses;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

extern "C" char** environ;

PROGRAM_KEEPER void KeepInImage(int count) {
  for (int i = 0; i < count; ++i) Opaque(malloc(29));
}

int main(int argc, char** argv) {
  constexpr int kImages = 6;
  const int image = argc > 1 ? atoi(argv[1]) : 0;
  printf("image %d, LD_PRELOAD %s\n", image,
         image <= kImages                  ? "as given"
         : getenv("LD_PRELOAD") == nullptr ? "gone"
                                           : "set");
  fflush(nullptr);
  if (image > kImages) return 21;
  KeepInImage(100 + image);
  ExpectSurvivors("KeepInImage", static_cast<size_t>(100 + image),
                  static_cast<size_t>(100 + image) * 29);
  if (image == 0) ExpectProcesses(kImages + 1);
  // An exec that fails changes nothing.
  char nowhere[] = "/no/such/program";
  char* no_arguments[] = {nowhere, nullptr};
  PROGRAM_CHECK(execv(nowhere, no_arguments) == -1 && errno == ENOENT);
  char number[16];
  snprintf(number, sizeof number, "%d", image + 1);
  char* arguments[] = {argv[0], number, nullptr};
  char* empty[] = {nullptr};
  execve(PROGRAM_DIR "/program_exec_chain", arguments, image == kImages ? empty : environ);
  return 1;
}
