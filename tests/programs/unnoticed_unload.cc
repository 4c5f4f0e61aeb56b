// A library is unloaded behind the tracer's back (libc unloads its own converters so): a child of
// fork does not read what is no longer mapped.
#include <sys/wait.h>

#include "tests/programs/plugins.h"

using ollamatrace::programs::ExpectProcesses;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Load;
using ollamatrace::programs::Opaque;
using ollamatrace::programs::Symbol;

PROGRAM_KEEPER void KeepInParent() { Opaque(malloc(71)); }
PROGRAM_KEEPER void KeepInChild() { Opaque(malloc(72)); }

int main() {
  void* const libc = dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD);
  PROGRAM_CHECK(libc != nullptr);
  auto* const close = Symbol<int(void*)>(libc, "dlclose");

  void* const handle = Load("libplugin_a.so", RTLD_NOW | RTLD_LOCAL);
  Symbol<void(int)>(handle, "PluginKeep")(5);
  PROGRAM_CHECK(close(handle) == 0);

  fflush(nullptr);
  const pid_t pid = fork();
  PROGRAM_CHECK(pid >= 0);
  if (pid == 0) {
    KeepInChild();
    ExpectSurvivors("KeepInChild", 1, 72);
    exit(0);
  }
  int status = 0;
  PROGRAM_CHECK(waitpid(pid, &status, 0) == pid);
  printf("child: %d\n", status);
  KeepInParent();
  ExpectSurvivors("PluginAKeep", 5, 5 * 1001);
  ExpectSurvivors("KeepInParent", 1, 71);
  ExpectProcesses(2);
  return 0;
}
