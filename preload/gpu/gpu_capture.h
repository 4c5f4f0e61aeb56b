#ifndef OLLAMATRACE_PRELOAD_GPU_GPU_CAPTURE_H_
#define OLLAMATRACE_PRELOAD_GPU_GPU_CAPTURE_H_

// How GPU capture comes into the process: the CUDA driver loads the library that
// CUDA_INJECTION64_PATH names when it starts, if it ever does. Nothing is loaded before.

namespace ollamatrace {

// When the library is loaded: points the driver at libollamatrace-cupti.so beside this library,
// unless somebody else has taken that place. What was decided is in the trace. Changes the
// environment: not in a hook.
void PrepareGpuCapture();

// After a call of CUDA that went well: if the driver has started, and did not load that library,
// this does, for what can be seen without CUPTI.
void StartWithoutInjection();

// In a fork child: what holds of its own trace.
void RepeatGpuCapture();

// What GPU capture has to say at each sample. On the drain's thread, no lock held.
void SampleGpu();

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_GPU_GPU_CAPTURE_H_
