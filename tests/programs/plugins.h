// Loading the plug-ins that stand beside the test programs.
#ifndef OLLAMATRACE_TESTS_PROGRAMS_PLUGINS_H_
#define OLLAMATRACE_TESTS_PROGRAMS_PLUGINS_H_

#include <dlfcn.h>

#include "tests/programs/program.h"

namespace ollamatrace::programs {

// `path` is relative to the folder of the programs. Fails the program when it cannot be loaded.
inline void* Load(const char* path, int flags) {
  char full[4096];
  snprintf(full, sizeof full, "%s/%s", PROGRAM_DIR, path);
  void* handle = dlopen(full, flags);
  if (handle == nullptr) fprintf(stderr, "%s\n", dlerror());
  PROGRAM_CHECK(handle != nullptr);
  return handle;
}

template <typename Function>
Function* Symbol(void* handle, const char* name) {
  auto* function = reinterpret_cast<Function*>(dlsym(handle, name));
  PROGRAM_CHECK(function != nullptr);
  return function;
}

}  // namespace ollamatrace::programs

#endif  // OLLAMATRACE_TESTS_PROGRAMS_PLUGINS_H_
