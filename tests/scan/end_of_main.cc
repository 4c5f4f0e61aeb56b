// Preloaded into a program that knows nothing of it: when its main returns, it is looked at, by
// ollama-leakview or by valgrind (see await_scan.h). What main held in its frame is gone then; what
// is static is not destroyed yet. END_OF_MAIN is the program's name: others are left alone.
#include <dlfcn.h>
#include <errno.h>

#include "tests/scan/await_scan.h"

namespace {

using Main = int (*)(int, char**, char**);
Main g_main;

int MainThenAwaitScan(int argc, char** argv, char** environment) {
  // The library's thread starts with some hundred allocations.
  for (size_t i = 0; i < 2000; ++i) free(malloc(i));
  const int status = g_main(argc, argv, environment);
  ollamatrace::WipeStack();
  ollamatrace::AwaitScan();
  return status;
}

}  // namespace

// As glibc declares it, of the program's start code (sysdeps/…/start.S).
extern "C" __attribute__((visibility("default"))) int __libc_start_main(Main main, int argc,
                                                                        char** argv, void (*init)(),
                                                                        void (*fini)(),
                                                                        void (*rtld_fini)(),
                                                                        void* stack_end) {
  using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
  g_main = main;
  const char* const program = getenv("END_OF_MAIN");
  const bool wanted = program != nullptr && strcmp(program, program_invocation_short_name) == 0;
  const auto start = reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"));
  return start(wanted ? MainThenAwaitScan : main, argc, argv, init, fini, rtld_fini, stack_end);
}
