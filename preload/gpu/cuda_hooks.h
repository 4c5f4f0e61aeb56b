#ifndef OLLAMATRACE_PRELOAD_GPU_CUDA_HOOKS_H_
#define OLLAMATRACE_PRELOAD_GPU_CUDA_HOOKS_H_

// The functions of cuda_calls.h, which this library stands in front of. They pass each call on to
// the function of that name that the caller would have got without this library, and tell of it
// once somebody wants to know (SetCudaObserver).
//
// Where there is no such function, as the caller asked for it in a process without CUDA
// (dlsym(RTLD_DEFAULT, ...)), the call answers "not initialized", which is 3 in both of CUDA's
// interfaces.

#include "preload/capture_api.h"

namespace ollamatrace {

using CudaObserver = void (*)(OllamatraceCudaCall* call);

// From now on; once.
void SetCudaObserver(CudaObserver observer);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_GPU_CUDA_HOOKS_H_
