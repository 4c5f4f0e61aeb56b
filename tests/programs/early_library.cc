// A library that the target links: its constructor runs before the tracer's, its destructor after.
#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

namespace {

void* early_block;

}  // namespace

PROGRAM_KEEPER void KeepEarly() {
  for (int i = 0; i < 10; ++i) Opaque(malloc(100));
}
PROGRAM_KEEPER void KeepLate() {
  for (int i = 0; i < 7; ++i) Opaque(malloc(50));
}
PROGRAM_KEEPER void FreedLate() {
  void* block = Opaque(malloc(500));
  free(block);
}

extern "C" __attribute__((visibility("default"))) void* EarlyBlock() { return early_block; }

namespace {

__attribute__((constructor)) void Construct() {
  early_block = Opaque(malloc(321));
  KeepEarly();
  ExpectSurvivors("KeepEarly", 10, 1000);
}

__attribute__((destructor)) void Destruct() {
  KeepLate();
  FreedLate();
  free(early_block);
  ExpectSurvivors("KeepLate", 7, 350);
  ExpectSurvivors("FreedLate", 0, 0);
  ExpectSurvivors("Construct", 10, 1000);
}

}  // namespace
