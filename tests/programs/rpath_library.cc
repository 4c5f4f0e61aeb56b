// Loads a library by its bare name from the folder in its own RPATH: an interposed dlopen would
// look in the wrong place.
#include <dlfcn.h>

extern "C" __attribute__((visibility("default"))) int CallDependency() {
  void* handle = dlopen("librpath_dependency.so", RTLD_NOW | RTLD_LOCAL);
  if (handle == nullptr) return 1;
  auto* keep = reinterpret_cast<void (*)()>(dlsym(handle, "KeepInDependency"));
  if (keep == nullptr) return 2;
  keep();
  // RTLD_NEXT is relative to the caller as well.
  return dlsym(RTLD_NEXT, "CallDependency") == nullptr ? 0 : 3;
}
