// RTLD_DEEPBIND binds a plug-in to libc's malloc past every hook: blocks then cross between hidden
// and seen.
#include "tests/programs/plugins.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Load;
using ollamatrace::programs::Opaque;
using ollamatrace::programs::Symbol;

PROGRAM_KEEPER void KeepInMain() { Opaque(malloc(18)); }

int main() {
  void* handle = Load("libplugin_a.so", RTLD_NOW | RTLD_LOCAL | RTLD_DEEPBIND);
  auto* allocate = Symbol<void*(size_t)>(handle, "PluginAllocate");
  auto* release = Symbol<void(void*)>(handle, "PluginFree");
  for (size_t i = 1; i < 300; ++i) {
    void* block = allocate(i * 40);
    memset(block, 1, i * 40);
    free(block);  // Never seen being allocated.
    block = Opaque(malloc(i * 40));
    KeepInMain();
    release(block);  // Perhaps never seen being freed.
    void* grown = realloc(allocate(i), i * 100);
    PROGRAM_CHECK(grown != nullptr);
    free(grown);
  }
  PROGRAM_CHECK(dlclose(handle) == 0);
  ExpectSurvivors("KeepInMain", 299, 299 * 18);
  puts("done");
  return 0;
}
