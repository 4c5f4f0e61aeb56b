#include "preload/gpu/cuda_hooks.h"

#include <dlfcn.h>
#include <errno.h>
#include <link.h>
#include <string.h>

#include <atomic>

#include "preload/base/text.h"
#include "preload/gpu/gpu_capture.h"
#include "preload/hooks/real.h"
#include "preload/hooks/record.h"
#include "preload/session/files.h"
#include "preload/session/thread.h"

namespace ollamatrace {
namespace {

using CudaFunction = int (*)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t);

constexpr int kNotInitialized = 3;  // CUDA_ERROR_NOT_INITIALIZED, cudaErrorInitializationError
constexpr const char* kNames[] = {
#define OLLAMATRACE_NAME(function) #function,
    OLLAMATRACE_CUDA_CALLS(OLLAMATRACE_NAME)
#undef OLLAMATRACE_NAME
};

std::atomic<CudaObserver> g_observer{nullptr};

// What each place in the program calls: entries are added, and stay. A key is the return address
// and, above its 48 bits, the number of the function, as a jump from the end of a function has its
// caller's return address.
struct KnownCall {
  std::atomic<uint64_t> key;
  std::atomic<CudaFunction> real;
};
constexpr size_t kKnownCalls = 1024;
KnownCall g_known[kKnownCalls];

bool BeginsWith(const char* text, const char* prefix) {
  return strncmp(text, prefix, strlen(prefix)) == 0;
}

// Keeps the library of that address loaded, as its functions are remembered.
void Pin(void* function) {
  Dl_info info;
  if (dladdr(function, &info) != 0) dlopen(info.dli_fname, RTLD_LAZY | RTLD_NOLOAD);
}

void* FromCaller(uintptr_t pc, const char* name) {
  Dl_info info;
  link_map* map = nullptr;
  if (dladdr1(reinterpret_cast<void*>(pc), &info, reinterpret_cast<void**>(&map),
              RTLD_DL_LINKMAP) == 0 ||
      map == nullptr || map->l_name[0] == '\0') {
    return nullptr;
  }
  void* const handle = dlopen(map->l_name, RTLD_LAZY | RTLD_NOLOAD);
  if (handle == nullptr) return nullptr;
  void* const found = dlsym(handle, name);
  if (found != nullptr) Pin(found);
  Real (&RealFunctions::dlclose)(handle);
  return found;
}

struct Wanted {
  bool runtime;  // else the driver
  char path[kMaxOwnPath];
};

int IsCuda(dl_phdr_info* info, size_t, void* argument) {
  auto* const wanted = static_cast<Wanted*>(argument);
  const char* const prefix = wanted->runtime ? "libcudart.so" : "libcuda.so";
  if (!BeginsWith(BaseName(info->dlpi_name), prefix)) return 0;
  return !TextWriter(wanted->path, sizeof wanted->path).Put(info->dlpi_name).cut();
}

// Of a library that somebody loaded for himself (RTLD_LOCAL), which then stays.
void* FromLibrary(const char* name) {
  Wanted wanted = {BeginsWith(name, "cuda"), {}};
  // To open it in there would take the linker's locks in the wrong order.
  if (dl_iterate_phdr(IsCuda, &wanted) == 0) return nullptr;
  void* const handle = dlopen(wanted.path, RTLD_LAZY | RTLD_NOLOAD);
  return handle == nullptr ? nullptr : dlsym(handle, name);
}

// nullptr: there is none. A library's own dependencies come first: two versions of CUDA's runtime
// may be loaded.
void* LookUp(uintptr_t pc, const char* name) {
  const int saved_errno = errno;
  const OwnWork own;
  void* found = FromCaller(pc, name);
  if (found == nullptr) {
    found = dlsym(RTLD_NEXT, name);
    if (found != nullptr) Pin(found);
  }
  if (found == nullptr) found = FromLibrary(name);
  errno = saved_errno;
  return found;
}

CudaFunction Find(uint32_t function, uintptr_t pc) {
  const uint64_t key = pc | uint64_t{function + 1} << 48;
  size_t slot = (key * UINT64_C(0x9E3779B97F4A7C15)) >> 54;
  static_assert(kKnownCalls == size_t{1} << (64 - 54));
  for (size_t tries = 0; tries < 16; ++tries, slot = (slot + 1) % kKnownCalls) {
    KnownCall& known = g_known[slot];
    uint64_t held = known.key.load(std::memory_order_acquire);
    if (held == key) {
      const CudaFunction real = known.real.load(std::memory_order_acquire);
      if (real != nullptr) return real;
      break;  // whoever has taken the entry is still looking
    }
    if (held != 0) continue;
    const auto real = reinterpret_cast<CudaFunction>(LookUp(pc, kNames[function]));
    if (real != nullptr && known.key.compare_exchange_strong(held, key)) {
      known.real.store(real, std::memory_order_release);
    }
    return real;
  }
  return reinterpret_cast<CudaFunction>(LookUp(pc, kNames[function]));
}

int Forward(OllamatraceCudaCall& call) {
  const CudaFunction real = Find(call.function, call.caller.pc);
  if (real == nullptr) return kNotInitialized;
  const uint64_t(&a)[6] = call.arguments;
  CudaObserver observer = g_observer.load(std::memory_order_acquire);
  if (observer != nullptr) observer(&call);
  call.begins = 0;
  call.status = real(a[0], a[1], a[2], a[3], a[4], a[5]);
  // The runtime starts the driver in its first call, and with it what watches.
  if (call.status == 0) StartWithoutInjection();
  if (observer == nullptr) observer = g_observer.load(std::memory_order_acquire);
  if (observer != nullptr) observer(&call);
  return call.status;
}

}  // namespace

void SetCudaObserver(CudaObserver observer) {
  g_observer.store(observer, std::memory_order_release);
}

}  // namespace ollamatrace

#define OLLAMATRACE_FORWARDED(function)                                                     \
  OLLAMATRACE_HOOK int function(uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e, \
                                uint64_t f) {                                               \
    OllamatraceCudaCall call = {OLLAMATRACE_CALL_##function, 1, {a, b, c, d, e, f}, 0, 0,   \
                                OLLAMATRACE_CALLER()};                                      \
    return ollamatrace::Forward(call);                                                      \
  }
OLLAMATRACE_CUDA_CALLS(OLLAMATRACE_FORWARDED)
