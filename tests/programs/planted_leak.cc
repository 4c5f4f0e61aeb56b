// libplanted_leak.so: a leak inside a real llama-server that nobody built for it. Stands before
// llama.cpp's function of the same name, which the server calls for each completion, and forgets a
// block in it.
//
//   LD_PRELOAD=libollamatrace.so:libplanted_leak.so PLANTED_LEAK_BYTES=5000 llama-server ...
//
// PLANTED_LEAK_BYTES  the size of the block; without it nothing is leaked
// PLANTED_LEAK_EVERY  only each so manieth call leaks; 1 without it
//
// It works where llama.cpp is called through the dynamic linker: in the xllamacpp wheel, and in a
// llama-server with a libllama.so of its own. A program that has llama.cpp linked into itself does
// not come by.
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <cstring>

namespace {

size_t Setting(const char* name, size_t otherwise) {
  const char* value = getenv(name);
  return value == nullptr ? otherwise : strtoul(value, nullptr, 10);
}

// llama.cpp's own function: in the caller's library or in one that comes after this one. RTLD_NEXT
// alone does not see what Python has loaded.
void* Real(const char* name, void* caller) {
  if (void* real = dlsym(RTLD_NEXT, name)) return real;
  Dl_info info;
  if (dladdr(caller, &info) == 0) abort();
  void* library = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
  void* real = library != nullptr ? dlsym(library, name) : nullptr;
  if (real == nullptr) abort();
  return real;
}

}  // namespace

struct llama_sampler;
struct llama_sampler_chain_params {
  bool no_perf;
};

extern "C" __attribute__((visibility("default"))) llama_sampler* llama_sampler_chain_init(
    llama_sampler_chain_params params) {
  static std::atomic<size_t> calls{0};
  static const size_t bytes = Setting("PLANTED_LEAK_BYTES", 0);
  static const size_t every = Setting("PLANTED_LEAK_EVERY", 1);
  static const auto real = reinterpret_cast<llama_sampler* (*)(llama_sampler_chain_params)>(
      Real("llama_sampler_chain_init", __builtin_return_address(0)));
  if (bytes > 0 && every > 0 && ++calls % every == 0) {
    void* forgotten = malloc(bytes);
    if (forgotten != nullptr) memset(forgotten, 1, bytes);
    asm volatile("" : : "r"(forgotten) : "memory");
  }
  llama_sampler* chain = real(params);
  asm volatile("" : : "r"(chain));  // no tail call: this frame stays
  return chain;
}
