#ifndef OLLAMATRACE_PRELOAD_GPU_GPU_CAPTURE_H_
#define OLLAMATRACE_PRELOAD_GPU_GPU_CAPTURE_H_

// How GPU capture comes into the process: the CUDA driver loads the library that
// CUDA_INJECTION64_PATH names when it starts, if it ever does. Nothing is loaded before.

namespace ollamatrace {

// When the library is loaded: points the driver at libollamatrace-cupti.so beside this library,
// unless somebody else has taken that place. What was decided is in the trace. Changes the
// environment: not in a hook.
void PrepareGpuCapture();

// In a fork child: what holds of its own trace.
void RepeatGpuCapture();

// What GPU capture has to say at each sample. On the drain's thread, no lock held.
void SampleGpu();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_GPU_GPU_CAPTURE_H_
