#include "cupti/interposed.h"

#include <cupti.h>

#include <type_traits>

namespace ollamatrace::cupti {
namespace {

CurrentContext g_current;

// The current context is the one that is asked for.
CUptiResult CUPTIAPI DeviceOfCurrent(CUcontext, uint32_t* device) {
  CUdevice ordinal = 0;
  if (g_current.get_device(&ordinal) != CUDA_SUCCESS) return CUPTI_ERROR_INVALID_CONTEXT;
  *device = static_cast<uint32_t>(ordinal);
  return CUPTI_SUCCESS;
}

CUcontext Current() {
  CUcontext context = nullptr;
  return g_current.get(&context) == CUDA_SUCCESS ? context : nullptr;
}

constexpr const char* kNames[] = {
#define OLLAMATRACE_NAME(function) #function,
    OLLAMATRACE_CUDA_CALLS(OLLAMATRACE_NAME)
#undef OLLAMATRACE_NAME
};

// A parameter as it came in its register.
struct Argument {
  uint64_t value;
  template <typename T>
  operator T() const {  // NOLINT: that is what it is for
    if constexpr (std::is_pointer_v<T>) {
      return reinterpret_cast<T>(value);
    } else {
      return static_cast<T>(value);
    }
  }
};

// As CUPTI would tell of a call of the driver's.
void Tell(OllamatraceCudaCall& call, CUpti_CallbackId id, const void* params) {
  CUresult status = static_cast<CUresult>(call.status);
  CUpti_CallbackData data = {};
  data.callbackSite = call.begins != 0 ? CUPTI_API_ENTER : CUPTI_API_EXIT;
  data.functionName = kNames[call.function];
  data.functionParams = params;
  data.functionReturnValue = &status;
  data.context = Current();
  data.correlationData = &call.kept;
  OnCall(CUPTI_CB_DOMAIN_DRIVER_API, id, &data, call.caller);
}

void TellResource(const OllamatraceCudaCall& call, CUpti_CallbackId id, CUcontext context,
                  CUgraphExec exec) {
  CUpti_GraphData graph = {};
  graph.graphExec = exec;
  CUpti_ResourceData data = {};
  data.context = context;
  data.resourceDescriptor = &graph;
  OnCall(CUPTI_CB_DOMAIN_RESOURCE, id, &data, call.caller);
}

void TellInstantiated(const OllamatraceCudaCall& call) {
  if (call.begins != 0 || call.status != 0) return;
  const CUgraphExec* const exec = Argument{call.arguments[0]};
  TellResource(call, CUPTI_CBID_RESOURCE_GRAPHEXEC_CREATED, Current(), *exec);
}

void TellContextEnds(const OllamatraceCudaCall& call, CUcontext context) {
  if (call.begins == 0) return;
  TellResource(call, CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING, context, nullptr);
}

// The runtime's description of an element: bits of x, y, z, w, and a kind (cudaChannelFormatDesc).
CUDA_ARRAY_DESCRIPTOR ArrayOf(const int* channels, uint64_t width, uint64_t height) {
  CUDA_ARRAY_DESCRIPTOR descriptor = {};
  descriptor.Width = width;
  descriptor.Height = height;
  descriptor.Format = channels[0] <= 8    ? CU_AD_FORMAT_UNSIGNED_INT8
                      : channels[0] <= 16 ? CU_AD_FORMAT_UNSIGNED_INT16
                                          : CU_AD_FORMAT_UNSIGNED_INT32;
  for (int i = 0; i < 4; ++i) descriptor.NumChannels += channels[i] != 0 ? 1 : 0;
  return descriptor;
}

}  // namespace

DeviceOfContext InitInterposed(const CurrentContext& current) {
  g_current = current;
  return DeviceOfCurrent;
}

void OnCudaCall(OllamatraceCudaCall* told) {
  OllamatraceCudaCall& call = *told;
  const Argument a{call.arguments[0]}, b{call.arguments[1]}, c{call.arguments[2]},
      d{call.arguments[3]}, e{call.arguments[4]};
// The driver's own, and what the runtime's is to the driver.
#define AS(name, function, ...)                                \
  case OLLAMATRACE_CALL_##name: {                              \
    const function##_params p = {__VA_ARGS__};                 \
    return Tell(call, CUPTI_DRIVER_TRACE_CBID_##function, &p); \
  }
#define SAME(function, ...) AS(function, function, __VA_ARGS__)
  switch (call.function) {
    SAME(cuMemAlloc_v2, a, b)
    SAME(cuMemAllocPitch_v2, a, b, c, d, e)
    SAME(cuMemFree_v2, a)
    SAME(cuMemAllocManaged, a, b, c)
    SAME(cuMemAllocHost_v2, a, b)
    SAME(cuMemHostAlloc, a, b, c)
    SAME(cuMemFreeHost, a)
    SAME(cuMemHostRegister_v2, a, b, c)
    SAME(cuMemHostUnregister, a)
    SAME(cuMemAllocAsync, a, b, c)
    SAME(cuMemAllocAsync_ptsz, a, b, c)
    SAME(cuMemAllocFromPoolAsync, a, b, c, d)
    SAME(cuMemAllocFromPoolAsync_ptsz, a, b, c, d)
    SAME(cuMemFreeAsync, a, b)
    SAME(cuMemFreeAsync_ptsz, a, b)
    SAME(cuMemAddressReserve, a, b, c, d, e)
    SAME(cuMemAddressFree, a, b)
    SAME(cuMemCreate, a, b, c, d)
    SAME(cuMemRelease, a)
    SAME(cuMemRetainAllocationHandle, a, b)
    SAME(cuMemImportFromShareableHandle, a, b, c)
    SAME(cuMemMap, a, b, c, d, e)
    SAME(cuMemUnmap, a, b)
    SAME(cuArrayCreate_v2, a, b)
    SAME(cuArray3DCreate_v2, a, b)
    SAME(cuArrayDestroy, a)
    SAME(cuMipmappedArrayCreate, a, b, c)
    SAME(cuMipmappedArrayDestroy, a)
    SAME(cuGraphAddMemAllocNode, a, b, c, d, e)
    SAME(cuGraphDestroy, a)
    AS(cudaMalloc, cuMemAlloc_v2, a, b)
    AS(cudaMallocPitch, cuMemAllocPitch_v2, a, b, c, d, 4)
    AS(cudaFree, cuMemFree_v2, a)
    AS(cudaMallocManaged, cuMemAllocManaged, a, b, c)
    AS(cudaMallocHost, cuMemAllocHost_v2, a, b)
    AS(cudaHostAlloc, cuMemHostAlloc, a, b, c)
    AS(cudaFreeHost, cuMemFreeHost, a)
    AS(cudaHostRegister, cuMemHostRegister_v2, a, b, c)
    AS(cudaHostUnregister, cuMemHostUnregister, a)
    AS(cudaMallocAsync, cuMemAllocAsync, a, b, c)
    AS(cudaMallocAsync_ptsz, cuMemAllocAsync, a, b, c)
    AS(cudaMallocFromPoolAsync, cuMemAllocFromPoolAsync, a, b, c, d)
    AS(cudaMallocFromPoolAsync_ptsz, cuMemAllocFromPoolAsync, a, b, c, d)
    AS(cudaFreeAsync, cuMemFreeAsync, a, b)
    AS(cudaFreeAsync_ptsz, cuMemFreeAsync, a, b)
    AS(cudaFreeArray, cuArrayDestroy, a)
    case OLLAMATRACE_CALL_cudaMallocArray: {
      if (call.arguments[1] == 0) return;
      const CUDA_ARRAY_DESCRIPTOR descriptor = ArrayOf(b, c, d);
      const cuArrayCreate_v2_params p = {a, &descriptor};
      return Tell(call, CUPTI_DRIVER_TRACE_CBID_cuArrayCreate_v2, &p);
    }
    case OLLAMATRACE_CALL_cuGraphInstantiateWithFlags:
    case OLLAMATRACE_CALL_cuGraphInstantiateWithParams:
    case OLLAMATRACE_CALL_cudaGraphInstantiate:
    case OLLAMATRACE_CALL_cudaGraphInstantiateWithFlags:
      return TellInstantiated(call);
    case OLLAMATRACE_CALL_cuGraphExecDestroy:
    case OLLAMATRACE_CALL_cudaGraphExecDestroy:
      if (call.begins == 0) return;
      return TellResource(call, CUPTI_CBID_RESOURCE_GRAPHEXEC_DESTROY_STARTING, Current(), a);
    case OLLAMATRACE_CALL_cuCtxDestroy_v2:
      return TellContextEnds(call, a);
    case OLLAMATRACE_CALL_cuDevicePrimaryCtxReset_v2:
    case OLLAMATRACE_CALL_cudaDeviceReset: {
      // The primary context is the current one, unless the program does not use it.
      CUdevice device = 0;
      if (call.begins != 0) {
        if (g_current.get_device(&device) != CUDA_SUCCESS) return;
        const bool runtime = call.function == OLLAMATRACE_CALL_cudaDeviceReset;
        if (!runtime && device != static_cast<CUdevice>(a)) return;
        call.kept = static_cast<uint64_t>(device) + 1;
        return TellContextEnds(call, Current());
      }
      if (call.kept == 0) return;
      const cuDevicePrimaryCtxReset_v2_params p = {static_cast<CUdevice>(call.kept - 1)};
      return Tell(call, CUPTI_DRIVER_TRACE_CBID_cuDevicePrimaryCtxReset_v2, &p);
    }
    default:
      return;
  }
#undef SAME
#undef AS
}

}  // namespace ollamatrace::cupti
