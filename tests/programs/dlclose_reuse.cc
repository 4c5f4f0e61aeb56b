// Two plug-ins of one size take turns at one address: stacks are named after the plug-in that was
// there at the time.
#include "tests/programs/plugins.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Load;
using ollamatrace::programs::Symbol;

int main() {
  int same = 0;
  void* last = nullptr;
  for (int i = 0; i < 20; ++i) {
    void* handle = Load(i % 2 == 0 ? "libplugin_a.so" : "libplugin_b.so", RTLD_NOW | RTLD_LOCAL);
    auto* keep = Symbol<void(int)>(handle, "PluginKeep");
    same += reinterpret_cast<void*>(keep) == last;
    last = reinterpret_cast<void*>(keep);
    keep(5);
    PROGRAM_CHECK(dlclose(handle) == 0);
  }
  // The kernel usually gives the freed range again; where it does not, the test is merely weaker.
  ollamatrace::programs::Expect("# addresses reused %d times", same);
  ExpectSurvivors("PluginAKeep", 50, 50 * 1001);
  ExpectSurvivors("PluginBKeep", 50, 50 * 2002);
  puts("done");
  return 0;
}
