// PR_SET_DUMPABLE 0 hides /proc/self from the process itself (unless it is root's).
#include <sys/prctl.h>

#include "tests/programs/plugins.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Load;
using ollamatrace::programs::Opaque;
using ollamatrace::programs::Symbol;

PROGRAM_KEEPER void KeepUndumpable() { Opaque(malloc(47)); }

int main() {
  KeepUndumpable();
  PROGRAM_CHECK(prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0);
  for (int i = 0; i < 1000; ++i) KeepUndumpable();
  void* handle = Load("libplugin_a.so", RTLD_NOW | RTLD_LOCAL);
  Symbol<void(int)>(handle, "PluginKeep")(3);
  ExpectSurvivors("KeepUndumpable", 1001, 1001 * 47);
  ExpectSurvivors("PluginAKeep", 3, 3 * 1001);
  printf("dumpable %d\n", prctl(PR_GET_DUMPABLE, 0, 0, 0, 0));
  return 0;
}
