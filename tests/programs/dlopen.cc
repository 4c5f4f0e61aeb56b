// Plug-ins are loaded while threads allocate; their frames are named though they came after the
// start.
#include <pthread.h>

#include <atomic>

#include "tests/programs/plugins.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Load;
using ollamatrace::programs::Opaque;
using ollamatrace::programs::Symbol;

namespace {

std::atomic<bool> stop{false};

void* Churn(void*) {
  while (!stop.load()) {
    for (int i = 1; i < 100; ++i) free(Opaque(malloc(static_cast<size_t>(i))));
  }
  return nullptr;
}

}  // namespace

int main() {
  pthread_t threads[3];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Churn, nullptr) == 0);
  for (int i = 0; i < 60; ++i) {
    void* handle = Load(i % 2 == 0 ? "libplugin_a.so" : "libplugin_b.so", RTLD_NOW | RTLD_LOCAL);
    Symbol<void(int)>(handle, "PluginKeep")(2);
    if (i < 40) PROGRAM_CHECK(dlclose(handle) == 0);
  }
  PROGRAM_CHECK(dlopen("/no/such/library.so", RTLD_NOW) == nullptr && dlerror() != nullptr);
  PROGRAM_CHECK(dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD) != nullptr);
  stop = true;
  for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  ExpectSurvivors("PluginAKeep", 60, 60 * 1001);
  ExpectSurvivors("PluginBKeep", 60, 60 * 2002);
  puts("done");
  return 0;
}
