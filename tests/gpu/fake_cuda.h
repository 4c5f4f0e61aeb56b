#ifndef OLLAMATRACE_TESTS_GPU_FAKE_CUDA_H_
#define OLLAMATRACE_TESTS_GPU_FAKE_CUDA_H_

// What the fake driver offers beyond the real one's functions.

#include <cuda.h>

extern "C" {
// Of the calling thread's next call: it fails, ends the process by SIGKILL between its two
// callbacks, or does its work by another call that calls back, too (cuMemAllocPitch, cuMemFree).
void FakeCudaFailNext(int status);
void FakeCudaDieInNext();
void FakeCudaNestNext();
// A module of device code of that size is loaded in the current context.
void FakeCudaLoadModule(size_t size);
// cuCtxCreate, whose parameters differ between CUDA 12 and 13.
CUresult FakeCudaCreateContext(CUcontext* context, int device);
}

#endif  // OLLAMATRACE_TESTS_GPU_FAKE_CUDA_H_
