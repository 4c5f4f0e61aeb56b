#include "preload/capture/unwinder.h"

#include <atomic>

#include "preload/base/text.h"
#include "preload/capture/unwinder_libunwind.h"
#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_shapes.h"
#include "preload/capture/unwinder_walk.h"

namespace ollamatrace::capture {
namespace {

constinit std::atomic<UnwindBackend> g_backend = UnwindBackend::kOwn;

}  // namespace

UnwindResult Unwind(ThreadUnwindCache* cache, const CallerFrame& start, uintptr_t* pcs, int max,
                    bool fingerprint) {
  if (max <= 0) return {0, 0, 0};
  const UnwindBackend backend = g_backend.load(std::memory_order_relaxed);
  const bool frame_pointers_only = backend == UnwindBackend::kFramePointer;
  const auto frame = reinterpret_cast<uintptr_t>(__builtin_frame_address(0));
  if (__builtin_expect(cache->walking != 0, 0)) {
    // A signal handler has interrupted a walk: it goes without memory. Only a walk whose frame lies
    // further in on this very stack is over: longjmp has left it.
    const bool over = frame >= cache->walking && frame < cache->stacks[0].high;
    if (!over) return WalkByRules(nullptr, start, pcs, max, frame_pointers_only);
  }
  cache->walking = frame;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  UnwindResult result = {0, 0, 0};
  if (__builtin_expect(backend == UnwindBackend::kLibunwind, 0)) {
    result = WalkByLibunwind(cache, start, pcs, max);
  }
  if (result.depth == 0) {
    result = WalkByRules(cache, start, pcs, max, frame_pointers_only);
    if (fingerprint) result.fingerprint = RememberShape(cache, start, max);
  }
  std::atomic_signal_fence(std::memory_order_seq_cst);
  cache->walking = 0;
  return result;
}

bool InitUnwinder(const char* backend_name) {
  ResolveDlFindObject();
  UnwindBackend backend = UnwindBackend::kOwn;
  bool available = true;
  if (backend_name == nullptr || *backend_name == '\0' || TextEquals(backend_name, "own")) {
    backend = UnwindBackend::kOwn;
  } else if (TextEquals(backend_name, "fp")) {
    backend = UnwindBackend::kFramePointer;
  } else {
    available = TextEquals(backend_name, "libunwind") && LoadLibunwind();
    if (available) backend = UnwindBackend::kLibunwind;
  }
  g_backend.store(backend, std::memory_order_relaxed);
  return available;
}

UnwindBackend CurrentUnwindBackend() { return g_backend.load(std::memory_order_relaxed); }

}  // namespace ollamatrace::capture
