#ifndef OLLAMATRACE_PRELOAD_CAPTURE_LIBUNWIND_WALK_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_LIBUNWIND_WALK_H_

// For tests: the stack as libunwind's unw_step finds it, told as Unwind tells it.

#ifndef UNW_LOCAL_ONLY
#define UNW_LOCAL_ONLY
#endif

#include <dlfcn.h>
#include <libunwind.h>

#include "preload/capture/unwinder.h"

namespace ollamatrace::capture {

// libunwind, loaded as the library loads it: linked, it would take over the program's exceptions.
class LibunwindWalk {
 public:
  bool Load() {
    void* library = dlopen("libunwind.so.8", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) return false;
    Resolve(library, "_Ux86_64_getcontext", &get_context_);
    Resolve(library, "_ULx86_64_init_local", &init_local_);
    Resolve(library, "_ULx86_64_step", &step_);
    Resolve(library, "_ULx86_64_get_reg", &get_register_);
    Resolve(library, "_ULx86_64_is_signal_frame", &is_signal_frame_);
    Resolve(library, "_Ux86_64_flush_cache", &flush_cache_);
    Resolve(library, "_ULx86_64_local_addr_space", &address_space_);
    return get_context_ != nullptr && init_local_ != nullptr && step_ != nullptr &&
           get_register_ != nullptr && is_signal_frame_ != nullptr && flush_cache_ != nullptr &&
           address_space_ != nullptr;
  }

  // What it remembers of code that may have been unloaded.
  void Forget() const { flush_cache_(*address_space_, 0, 0); }

  // The stack from `start` on, a frame of the calling thread further out than this one; 0 when that
  // is not on the way.
  __attribute__((noinline)) int Walk(const CallerFrame& start, uintptr_t* pcs, int max) const {
    unw_context_t context;
    unw_cursor_t cursor;
    get_context_(&context);
    init_local_(&cursor, &context);
    int depth = 0;
    do {
      unw_word_t pc = 0;
      unw_word_t sp = 0;
      get_register_(&cursor, UNW_REG_IP, &pc);
      get_register_(&cursor, UNW_REG_SP, &sp);
      if (pc == 0) break;
      if (depth > 0 || (pc == start.pc && sp == start.sp)) {
        // It says so of the frame that was interrupted, not of the kernel's.
        pcs[depth++] = pc | (is_signal_frame_(&cursor) > 0 ? kExactPc : 0);
      }
    } while (depth < max && step_(&cursor) > 0);
    return depth;
  }

 private:
  template <typename Function>
  static void Resolve(void* library, const char* name, Function* symbol) {
    *symbol = reinterpret_cast<Function>(dlsym(library, name));
  }

  int (*get_context_)(unw_context_t*) = nullptr;
  int (*init_local_)(unw_cursor_t*, unw_context_t*) = nullptr;
  int (*step_)(unw_cursor_t*) = nullptr;
  int (*get_register_)(unw_cursor_t*, unw_regnum_t, unw_word_t*) = nullptr;
  int (*is_signal_frame_)(unw_cursor_t*) = nullptr;
  void (*flush_cache_)(unw_addr_space_t, unw_word_t, unw_word_t) = nullptr;
  unw_addr_space_t* address_space_ = nullptr;
};

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_LIBUNWIND_WALK_H_
