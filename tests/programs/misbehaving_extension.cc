// A target that exports unwinder, zstd and file functions of its own, and plug-ins that allocate in
// their constructors.
#include <pthread.h>

#include "tests/programs/plugins.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Load;
using ollamatrace::programs::Opaque;

extern "C" int MisbehavingCalls();

PROGRAM_KEEPER void KeepDespite() { Opaque(malloc(99)); }

namespace {

void* Work(void*) {
  for (int i = 0; i < 20000; ++i) free(Opaque(malloc(static_cast<size_t>(i % 300))));
  for (int i = 0; i < 50; ++i) KeepDespite();
  return nullptr;
}

}  // namespace

int main() {
  pthread_t threads[2];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
  for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  for (int i = 0; i < 10; ++i) {
    void* handle =
        Load("libearly_library.so", RTLD_NOW | RTLD_GLOBAL);  // Allocates on load and on unload.
    PROGRAM_CHECK(dlclose(handle) == 0);
  }
  printf("%d calls\n", MisbehavingCalls());
  ExpectSurvivors("KeepDespite", 100, 9900);
  return 0;
}
