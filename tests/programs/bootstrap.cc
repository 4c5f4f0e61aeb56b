// Allocations before any constructor of the tracer has run: .preinit_array, and dlsym, which itself
// may allocate.
#include <dlfcn.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

namespace {

void* from_preinit[64];

}  // namespace

PROGRAM_KEEPER void KeepBeforeConstructors() { Opaque(malloc(1234)); }

namespace {

void BeforeEverything(int, char**, char**) {
  for (int i = 0; i < 64; ++i) {
    from_preinit[i] = i % 2 == 0 ? Opaque(malloc(32)) : Opaque(calloc(4, 8));
    PROGRAM_CHECK(from_preinit[i] != nullptr);
  }
  for (int i = 0; i < 16; ++i) from_preinit[i] = Opaque(realloc(from_preinit[i], 5000));
  for (int i = 16; i < 32; ++i) {
    free(from_preinit[i]);
    from_preinit[i] = nullptr;
  }
  KeepBeforeConstructors();
  (void)dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere");
  (void)dlerror();  // Its text was allocated.
}

__attribute__((section(".preinit_array"),
               used)) void (*before_everything)(int, char**, char**) = BeforeEverything;

}  // namespace

int main() {
  for (int i = 0; i < 500; ++i) {
    PROGRAM_CHECK(dlsym(RTLD_DEFAULT, "no_such_symbol_anywhere") == nullptr &&
                  dlerror() != nullptr);
    PROGRAM_CHECK(dlsym(RTLD_NEXT, "puts") != nullptr);
  }
  for (void* block : from_preinit) free(block);
  ExpectSurvivors("KeepBeforeConstructors", 1, 1234);
  ExpectSurvivors("BeforeEverything", 1, 1234);
  puts("done");
  return 0;
}
