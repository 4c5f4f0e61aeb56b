// A CUDA runtime for machines without a GPU: starts the driver at its first call, and finds the
// driver's functions by itself, as the real one does, so that nobody sees its calls by their names.

#include <cuda.h>
#include <dlfcn.h>

#include <cstdint>

namespace {

template <typename Function>
Function* Driver(Function*, const char* name) {
  static void* const driver = dlopen("libcuda.so.1", RTLD_NOW);
  return reinterpret_cast<Function*>(dlsym(driver, name));
}
#define DRIVER(function, name) Driver(&function, name)

void Start() {
  CUcontext context = nullptr;
  DRIVER(cuInit, "cuInit")(0);
  DRIVER(cuCtxGetCurrent, "cuCtxGetCurrent")(&context);
  if (context != nullptr) return;
  using Create = CUresult(CUcontext*, int);
  Driver(static_cast<Create*>(nullptr), "FakeCudaCreateContext")(&context, 0);
}

}  // namespace

extern "C" {

// As driver_types.h has it.
struct cudaChannelFormatDesc {
  int x, y, z, w, kind;
};

int cudaMalloc(void** p, size_t size) {
  Start();
  return DRIVER(cuMemAlloc, "cuMemAlloc_v2")(reinterpret_cast<CUdeviceptr*>(p), size);
}
int cudaFree(void* p) {
  return DRIVER(cuMemFree, "cuMemFree_v2")(reinterpret_cast<CUdeviceptr>(p));
}
int cudaMallocPitch(void** p, size_t* pitch, size_t width, size_t height) {
  Start();
  return DRIVER(cuMemAllocPitch, "cuMemAllocPitch_v2")(reinterpret_cast<CUdeviceptr*>(p), pitch,
                                                       width, height, 4);
}
int cudaMallocManaged(void** p, size_t size, unsigned flags) {
  Start();
  return DRIVER(cuMemAllocManaged, "cuMemAllocManaged")(reinterpret_cast<CUdeviceptr*>(p), size,
                                                        flags);
}
int cudaMallocHost(void** p, size_t size) {
  Start();
  return DRIVER(cuMemHostAlloc, "cuMemHostAlloc")(p, size, 0);
}
int cudaFreeHost(void* p) { return DRIVER(cuMemFreeHost, "cuMemFreeHost")(p); }
int cudaMallocAsync(void** p, size_t size, CUstream stream) {
  Start();
  return DRIVER(cuMemAllocAsync, "cuMemAllocAsync")(reinterpret_cast<CUdeviceptr*>(p), size,
                                                    stream);
}
int cudaFreeAsync(void* p, CUstream stream) {
  return DRIVER(cuMemFreeAsync, "cuMemFreeAsync")(reinterpret_cast<CUdeviceptr>(p), stream);
}
int cudaMallocArray(CUarray* array, const cudaChannelFormatDesc* channels, size_t width,
                    size_t height, unsigned) {
  Start();
  const unsigned count = static_cast<unsigned>((channels->x != 0) + (channels->y != 0) +
                                               (channels->z != 0) + (channels->w != 0));
  const CUDA_ARRAY_DESCRIPTOR descriptor = {width, height, CU_AD_FORMAT_FLOAT, count};
  return DRIVER(cuArrayCreate, "cuArrayCreate_v2")(array, &descriptor);
}
int cudaFreeArray(CUarray array) { return DRIVER(cuArrayDestroy, "cuArrayDestroy")(array); }
int cudaGraphInstantiate(CUgraphExec* exec, CUgraph graph, unsigned long long flags) {
  Start();
  return DRIVER(cuGraphInstantiateWithFlags, "cuGraphInstantiateWithFlags")(exec, graph, flags);
}
int cudaGraphExecDestroy(CUgraphExec exec) {
  return DRIVER(cuGraphExecDestroy, "cuGraphExecDestroy")(exec);
}
int cudaGetDeviceCount(int* count) {
  *count = 1;
  return 0;
}
int cudaDeviceSynchronize() { return 0; }
int cudaMemGetInfo(size_t* free, size_t* total) {
  *total = size_t{80} << 30;
  *free = *total - Driver(static_cast<uint64_t (*)()>(nullptr), "FakeCudaUsed")();
  return 0;
}
int cudaHostRegister(void* p, size_t size, unsigned flags) {
  using Register = CUresult(void*, size_t, unsigned);
  return Driver(static_cast<Register*>(nullptr), "cuMemHostRegister_v2")(p, size, flags);
}
int cudaGraphCreate(void** graph, unsigned) {
  *graph = graph;
  return 0;
}
int cudaDeviceReset() { return DRIVER(cuDevicePrimaryCtxReset, "cuDevicePrimaryCtxReset_v2")(0); }

}  // extern "C"
