// A plug-in; PLUGIN_KEEPER and PLUGIN_KEEPER_SIZE differ from build to build.
#include "tests/programs/program.h"

using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void PLUGIN_KEEPER(int count) {
  for (int i = 0; i < count; ++i) Opaque(malloc(PLUGIN_KEEPER_SIZE));
}

extern "C" __attribute__((visibility("default"))) void PluginKeep(int count) {
  PLUGIN_KEEPER(count);
}
extern "C" __attribute__((visibility("default"))) void* PluginAllocate(size_t size) {
  return Opaque(malloc(size));
}
extern "C" __attribute__((visibility("default"))) void PluginFree(void* block) { free(block); }
