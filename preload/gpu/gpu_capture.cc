#include "preload/gpu/gpu_capture.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <atomic>

#include "formats/encode.h"
#include "preload/base/clock.h"
#include "preload/base/lock.h"
#include "preload/base/own_memory.h"
#include "preload/base/signal_block.h"
#include "preload/base/sys.h"
#include "preload/base/text.h"
#include "preload/capture_api.h"
#include "preload/gpu/cuda_hooks.h"
#include "preload/hooks/record.h"
#include "preload/session/files.h"
#include "preload/session/session.h"

namespace ollamatrace {
namespace {

constexpr const char* kVariable = "CUDA_INJECTION64_PATH";
constexpr const char* kLibrary = "libollamatrace-cupti.so";
constexpr size_t kReasonBytes = 512;

// Of this process, for the children that fork makes.
std::atomic<uint32_t> g_state{static_cast<uint32_t>(GpuCaptureState::kUnavailable)};
char g_reason[kReasonBytes];
char g_where[kMaxOwnPath];
std::atomic<void (*)()> g_on_sample{nullptr};
// The other library is there, and has not been heard of.
std::atomic<bool> g_expected{false};
char g_sibling[kMaxOwnPath];

// One record at a time: the first call of a fork child may come on a small stack.
FutexLock g_lock;
uint8_t g_encoded[64 + kReasonBytes + kMaxOwnPath];

void Record(GpuCaptureState state, const char* reason, const char* where) {
  const SignalBlock no_signals;
  const FutexLockHolder hold(&g_lock);
  GpuCaptureRecord record;
  record.time_ns = MonotonicNs();
  record.state = state;
  record.reason = {reason, strlen(reason)};
  record.where = {where, strlen(where)};
  if (record.reason.size > kReasonBytes) record.reason.size = kReasonBytes;
  if (record.where.size > kMaxOwnPath) record.where.size = kMaxOwnPath;
  DefineRecord(g_encoded, EncodeGpuCapture(record, g_encoded));
}

void Decide(GpuCaptureState state, const char* reason, const char* where) {
  TextWriter(g_reason, sizeof g_reason).Put(reason);
  TextWriter(g_where, sizeof g_where).Put(where);
  g_state.store(static_cast<uint32_t>(state), std::memory_order_release);
  Record(state, reason, where);
}

// The library beside this one. False when its path is too long.
bool Sibling(char (&out)[kMaxOwnPath]) {
  Dl_info info;
  if (dladdr(reinterpret_cast<const void*>(&g_state), &info) == 0) return false;
  TextWriter path(out, sizeof out);
  if (info.dli_fname[0] != '/') {
    const long length = sys::Call(__NR_getcwd, sys::Arg(out), sizeof out);
    if (length <= 1 || out[0] != '/') return false;
    TextWriter rest(out + length - 1, sizeof out - static_cast<size_t>(length) + 1);
    const char* const name = BaseName(info.dli_fname);
    rest.Put('/').Put(info.dli_fname, static_cast<size_t>(name - info.dli_fname)).Put(kLibrary);
    return !rest.cut();
  }
  path.Put(info.dli_fname, static_cast<size_t>(BaseName(info.dli_fname) - info.dli_fname));
  path.Put(kLibrary);
  return !path.cut();
}

// Adds "name=value" to the environment. By setenv, the target's next setenv would reallocate a
// block that nobody has recorded. False when there is no memory.
bool AddToEnvironment(const char* name, const char* value) {
  static char entry[kMaxOwnPath + 64];
  static char* entries[512];
  TextWriter text(entry, sizeof entry);
  if (text.Put(name).Put('=').Put(value).cut()) return false;
  size_t count = 0;
  while (environ != nullptr && environ[count] != nullptr) ++count;
  const size_t wanted = count + 2;
  char** const larger = wanted <= sizeof entries / sizeof entries[0]
                            ? entries
                            : static_cast<char**>(MapOwn(wanted * sizeof(char*)));
  if (larger == nullptr) return false;
  const size_t name_size = strlen(name) + 1;  // with the '='
  size_t kept = 0;
  for (size_t i = 0; i < count; ++i) {
    if (strncmp(environ[i], entry, name_size) != 0) larger[kept++] = environ[i];
  }
  larger[kept] = entry;
  larger[kept + 1] = nullptr;
  environ = larger;
  return true;
}

bool IsReadable(const char* path) {
  return !sys::Failed(sys::Call(__NR_faccessat, AT_FDCWD, sys::Arg(path), R_OK));
}

// ---- The functions that the other library calls ----

uint32_t Begin(const void* frame) {
  if (!Enter(reinterpret_cast<uintptr_t>(frame), Nested::kLost)) return 0;
  return g_session.journal.header()->pid;
}

void End() { Leave(); }

uint32_t Stack(const OllamatraceCaller* caller, uint32_t place) {
  return RecordPlacedStack({caller->pc, caller->sp, caller->frame_pointer}, place);
}

void Alloc(uint32_t domain, uint64_t address, uint64_t size, uint32_t stack) {
  RecordGpuAlloc(static_cast<Domain>(domain), address, size, stack);
}

void Free(uint32_t domain, uint64_t address) {
  RecordGpuFree(static_cast<Domain>(domain), address);
}

void DefineStack(uint32_t stack) {
  const uint32_t known = g_session.journal.header()->next_node.load(std::memory_order_acquire);
  uint32_t path[kMaxStackDepth];
  uint32_t depth = 0;
  for (uint32_t id = stack; id != 0 && id < known && id < kMaxNodes && depth < kMaxStackDepth;
       id = g_session.journal.node(id)->parent) {
    path[depth++] = id;
  }
  while (depth > 0) {
    const uint32_t id = path[--depth];
    const StackNode& node = *g_session.journal.node(id);
    uint8_t encoded[kNodeBytes];
    DefineRecord(encoded, EncodeNode({StackId{id}, StackId{node.parent},
                                      ModuleId{node.module & ~kNodeExact}, node.address,
                                      (node.module & kNodeExact) != 0 ? uint8_t{1} : uint8_t{0}},
                                     encoded));
  }
}

void CaptureState(uint32_t state, const char* reason, const char* where) {
  g_expected.store(false, std::memory_order_relaxed);
  if (GateIsOpen()) Decide(static_cast<GpuCaptureState>(state), reason, where);
}

void OnCudaCall(CudaObserver observer) { SetCudaObserver(observer); }

void OnSample(void (*function)()) { g_on_sample.store(function, std::memory_order_release); }

uint64_t Now() { return MonotonicNs(); }

void* Memory(size_t size) { return MapOwn(size, MAP_NORESERVE); }

constexpr OllamatraceCaptureApi kApi = {Begin,    End,          Stack,       Alloc,
                                        Free,     DefineRecord, DefineStack, CaptureState,
                                        OnSample, OnCudaCall,   Now,         Memory};

}  // namespace

void PrepareGpuCapture() {
  const char* const wanted = g_session.settings.cupti;
  if (wanted != nullptr && TextEquals(wanted, "off")) {
    return Decide(GpuCaptureState::kUnavailable, "it was switched off by OLLAMATRACE_CUPTI=off",
                  "");
  }
  const char* const path = g_sibling;
  if (!Sibling(g_sibling)) {
    return Decide(GpuCaptureState::kUnavailable, "the library's own folder is not known", "");
  }
  g_expected.store(IsReadable(path), std::memory_order_relaxed);
  const char* const taken = getenv(kVariable);
  if (taken != nullptr && taken[0] != '\0') {
    if (TextEquals(BaseName(taken), kLibrary)) {
      return Decide(GpuCaptureState::kPrepared, "", taken);
    }
    return Decide(GpuCaptureState::kUnavailable, "CUDA_INJECTION64_PATH names another library",
                  taken);
  }
  if (!IsReadable(path)) {
    return Decide(GpuCaptureState::kUnavailable, "its library is not there", path);
  }
  if (!AddToEnvironment(kVariable, path)) {
    return Decide(GpuCaptureState::kUnavailable, "CUDA_INJECTION64_PATH cannot be set", path);
  }
  Decide(GpuCaptureState::kPrepared, "", path);
}

void StartWithoutInjection() {
  if (!g_expected.load(std::memory_order_relaxed) || !GateIsOpen()) return;
  if (!g_expected.exchange(false, std::memory_order_relaxed)) return;
  const int saved_errno = errno;
  void (*start)(const char*, const char*) = nullptr;
  {
    const OwnWork own;
    void* const library = dlopen(g_sibling, RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) {
      const char* const why = dlerror();
      Decide(GpuCaptureState::kUnavailable, "its library cannot be loaded",
             why != nullptr ? why : g_sibling);
    } else {
      start = reinterpret_cast<decltype(start)>(dlsym(library, OLLAMATRACE_START_WITHOUT_CUPTI));
    }
  }
  if (start != nullptr) {
    const bool prepared = g_state.load(std::memory_order_acquire) ==
                          static_cast<uint32_t>(GpuCaptureState::kPrepared);
    static char reason[kReasonBytes], where[kMaxOwnPath];  // what is told comes back to Decide
    TextWriter(reason, sizeof reason)
        .Put(prepared ? "the CUDA driver has not loaded the library" : g_reason);
    TextWriter(where, sizeof where).Put(g_where);
    start(reason, where);
  }
  errno = saved_errno;
}

void RepeatGpuCapture() {
  g_lock.Reset();
  g_on_sample.store(nullptr, std::memory_order_relaxed);
  const auto state = static_cast<GpuCaptureState>(g_state.load(std::memory_order_acquire));
  if (state == GpuCaptureState::kActive || state == GpuCaptureState::kPartial) {
    return Decide(GpuCaptureState::kUnavailable,
                  "the process was forked after CUDA had started: CUDA does not work in the child",
                  g_where);
  }
  Record(state, g_reason, g_where);
}

void SampleGpu() {
  void (*const function)() = g_on_sample.load(std::memory_order_acquire);
  if (function != nullptr && GateIsOpen()) function();
}

}  // namespace ollamatrace

extern "C" __attribute__((visibility("default"))) const OllamatraceCaptureApi*
ollamatrace_capture_api(uint32_t version) {
  return version == OLLAMATRACE_CAPTURE_API_VERSION ? &ollamatrace::kApi : nullptr;
}
