// An extension that relies on its own RPATH.
#include "tests/programs/plugins.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Load;
using ollamatrace::programs::Symbol;

int main() {
  PROGRAM_CHECK(dlopen("librpath_dependency.so", RTLD_NOW) ==
                nullptr);  // Not on the program's own path.
  void* handle = Load("librpath_library.so", RTLD_NOW | RTLD_LOCAL);
  printf("the extension answers %d\n", Symbol<int()>(handle, "CallDependency")());
  ExpectSurvivors("KeepInDependency", 1, 400);
  return 0;
}
