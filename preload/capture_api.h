/* What libollamatrace.so offers to other libraries of the project in the same process: the way into
 * its trace for events that it cannot see itself. libollamatrace-cupti.so finds it by
 *
 *   dlsym(RTLD_DEFAULT, OLLAMATRACE_CAPTURE_API)
 *
 * which is a function `const struct OllamatraceCaptureApi* (uint32_t version)` that answers NULL
 * for versions that it does not know. Thread-safe; nothing allocates, throws or changes errno.
 */
#ifndef OLLAMATRACE_PRELOAD_CAPTURE_API_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_API_H_

#include <stddef.h>
#include <stdint.h>

#include "preload/cuda_calls.h"

#define OLLAMATRACE_CAPTURE_API "ollamatrace_capture_api"
#define OLLAMATRACE_CAPTURE_API_VERSION 2

/* A function of libollamatrace-cupti.so, `void (const char* reason, const char* where)`, which
 * libollamatrace.so calls once when CUDA is at work and nobody has called its InitializeInjection.
 */
#define OLLAMATRACE_START_WITHOUT_CUPTI "OllamatraceStartWithoutCupti"

/* The caller of a function, as it stands right after the function returns. */
struct OllamatraceCaller {
  uintptr_t pc, sp, frame_pointer;
};
/* Of the function in which it stands, which must not hold variables aligned to more than 16 bytes.
 */
#define OLLAMATRACE_CALLER()                                           \
  {                                                                    \
    (uintptr_t) __builtin_return_address(0),                           \
        (uintptr_t)__builtin_frame_address(0) + 2 * sizeof(uintptr_t), \
        *(const uintptr_t*)__builtin_frame_address(0)                  \
  }

/* The functions of cuda_calls.h, by number: OLLAMATRACE_CALL_<function>. */
enum OllamatraceCudaFunction {
#define OLLAMATRACE_NUMBERED(function) OLLAMATRACE_CALL_##function,
  OLLAMATRACE_CUDA_CALLS(OLLAMATRACE_NUMBERED)
#undef OLLAMATRACE_NUMBERED
};

/* One call of such a function, before it (`begins`) or after it. */
struct OllamatraceCudaCall {
  uint32_t function;
  uint32_t begins;
  uint64_t arguments[6]; /* those that it has; of narrow ones the upper bits mean nothing */
  int32_t status;        /* after it: what it answers */
  uint64_t kept;         /* 0 at first; what was put there before the call is there after it */
  struct OllamatraceCaller caller;
};

struct OllamatraceCaptureApi {
  /* Around all calls of the functions below but those that say otherwise. `frame` is the caller's
   * __builtin_frame_address(0). 0: not now (recording is off, or this thread is in a hook): do
   * nothing, and do not call end. Else the number of the session: another one in a child of fork,
   * whose trace knows nothing of what came before. */
  uint32_t (*begin)(const void* frame);
  void (*end)(void);

  /* The stack whose innermost frame is `place` (formats/gpu_records.h) and whose second one is
   * `caller`. 0: none. */
  uint32_t (*stack)(const struct OllamatraceCaller* caller, uint32_t place);
  /* Blocks; `domain` as in formats/trace_format.h. For one address the order of these calls is the
   * order in the trace: record an allocation after it happened and a free before. */
  void (*alloc)(uint32_t domain, uint64_t address, uint64_t size, uint32_t stack);
  void (*free)(uint32_t domain, uint64_t address);
  /* An encoded record (formats/encode.h). May wait for the drain. */
  void (*define)(const uint8_t* record, size_t size);
  /* Puts the stack's nodes into the trace although no block of it is there. */
  void (*define_stack)(uint32_t stack);

  /* The rest needs no begin. */

  /* What became of the capture: formats/gpu_records.h, GpuCaptureState. */
  void (*capture_state)(uint32_t state, const char* reason, const char* where);
  /* `function` is called at each sample and before the trace ends, on a thread of the library's,
   * between begin and end. One at a time; NULL: none. */
  void (*on_sample)(void (*function)(void));
  /* `function` is told of each call of cuda_calls.h that goes through this library: those of
   * callers that find the function by its name when they are linked or loaded. Maybe of a call's
   * end alone. On the thread that calls, outside of begin. For good. */
  void (*on_cuda_call)(void (*function)(struct OllamatraceCudaCall* call));
  uint64_t (*now_ns)(void);
  /* Zeroed memory that is accounted as the tracer's own and never given back; NULL: none. */
  void* (*memory)(size_t size);
};

typedef const struct OllamatraceCaptureApi* (*OllamatraceCaptureApiFunction)(uint32_t version);

#endif /* OLLAMATRACE_PRELOAD_CAPTURE_API_H_ */
