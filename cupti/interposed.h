#ifndef OLLAMATRACE_CUPTI_INTERPOSED_H_
#define OLLAMATRACE_CUPTI_INTERPOSED_H_

// Capture without CUPTI, by the calls that libollamatrace.so stands in front of
// (preload/cuda_calls.h): they are made to look like CUPTI's callbacks. Only calls of programs and
// libraries that link CUDA's dynamically are seen so; not those of cuBLAS and NCCL, nor those of a
// CUDA runtime that is linked in, which look the driver's functions up themselves.

#include <cuda.h>

#include "cupti/callbacks.h"
#include "preload/capture_api.h"

namespace ollamatrace::cupti {

// The driver's, of the calling thread's context.
struct CurrentContext {
  decltype(&cuCtxGetCurrent) get = nullptr;
  decltype(&cuCtxGetDevice) get_device = nullptr;
};

// Before the first call; what InitCallbacks needs. Neither function is nullptr.
DeviceOfContext InitInterposed(const CurrentContext& current);

// Before and after a call, on the thread that makes it.
void OnCudaCall(OllamatraceCudaCall* call);

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_INTERPOSED_H_
