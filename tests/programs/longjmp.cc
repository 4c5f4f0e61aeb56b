// longjmp over frames that allocated, by a plain call and out of a handler of a signal the thread
// sent itself.
#include <setjmp.h>
#include <signal.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

namespace {

sigjmp_buf back;
volatile int jumps = 0;

void Handler(int) {
  free(Opaque(malloc(32)));
  siglongjmp(back, 1);
}

}  // namespace

PROGRAM_KEEPER void KeepDeep(int depth) {
  char frame[200];
  Opaque(frame)[0] = static_cast<char>(depth);
  if (depth == 0) {
    Opaque(malloc(48));
    if (jumps % 2 == 0) siglongjmp(back, 1);
    raise(SIGUSR1);
  }
  KeepDeep(depth - 1);
  Opaque(frame)[1] = 1;
}
PROGRAM_KEEPER void KeepShallow() { Opaque(malloc(16)); }

int main() {
  signal(SIGUSR1, Handler);
  while (jumps < 200) {
    if (sigsetjmp(back, 1) == 0) {
      KeepDeep(jumps % 60);
    } else {
      KeepShallow();
      jumps = jumps + 1;
    }
  }
  ExpectSurvivors("KeepDeep", 200, 200 * 48);
  ExpectSurvivors("KeepShallow", 200, 200 * 16);
  printf("%d jumps\n", jumps);
  return 0;
}
