// A CUDA driver for machines without a GPU: memory that nobody can touch, at addresses that are
// used again as soon as they are free. Loads what CUDA_INJECTION64_PATH names when it is
// initialized, and calls the fake libcupti back as the real driver calls the real one.
//
// FakeCuda... are for the script that drives it: the next call fails with a status, dies in the
// middle, or makes an inner call of itself.

#include "tests/gpu/fake_cuda.h"

#include <cuda.h>
#include <cupti.h>
#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>

#include "tests/gpu/fake_cupti.h"

struct CUctx_st {
  uint32_t device;
};

namespace {

using CallFunction = decltype(&FakeCuptiCall);

std::mutex g_mutex;
CallFunction g_call = nullptr;
bool g_initialized = false;
uint64_t g_next = 0x7f00'0000'0000;
std::multimap<uint64_t, uint64_t> g_free;  // address by size
std::map<uint64_t, uint64_t> g_sizes;      // of what is live, by address
thread_local CUcontext t_context = nullptr;
thread_local CUresult t_next_status = CUDA_SUCCESS;
thread_local bool t_dies = false;
thread_local bool t_nests = false;

uint64_t Take(uint64_t size) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  uint64_t address;
  if (const auto it = g_free.find(size); it != g_free.end()) {
    address = it->second;
    g_free.erase(it);
  } else {
    address = g_next;
    g_next += (size / 512 + 1) * 512;
  }
  g_sizes[address] = size;
  return address;
}

void GiveBack(uint64_t address) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  const auto it = g_sizes.find(address);
  if (it == g_sizes.end()) return;
  g_free.emplace(it->second, address);
  g_sizes.erase(it);
}

// The host's view of page-locked memory is a mapping that the driver makes.
void* MapHost(size_t size) {
  void* const address =
      mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (address == MAP_FAILED) return nullptr;
  const std::lock_guard<std::mutex> lock(g_mutex);
  g_sizes[reinterpret_cast<uint64_t>(address)] = size;
  return address;
}

void UnmapHost(void* address) {
  const std::lock_guard<std::mutex> lock(g_mutex);
  const auto it = g_sizes.find(reinterpret_cast<uint64_t>(address));
  if (it == g_sizes.end()) return;
  munmap(address, it->second);
  g_sizes.erase(it);
}

// The injection is loaded as the real driver loads it: by dlopen, then its InitializeInjection.
void Inject() {
  const char* const path = std::getenv("CUDA_INJECTION64_PATH");
  if (path != nullptr && std::getenv("FAKE_CUDA") == nullptr) {
    if (void* const library = dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
      const auto start = reinterpret_cast<int (*)()>(dlsym(library, "InitializeInjection"));
      if (start != nullptr) start();
    }
  }
  if (void* const cupti = dlopen("libcupti.so." FAKE_MAJOR, RTLD_NOW | RTLD_NOLOAD)) {
    g_call = reinterpret_cast<CallFunction>(dlsym(cupti, "FakeCuptiCall"));
  }
}

CUresult TakeStatus() {
  const CUresult status = t_next_status;
  t_next_status = CUDA_SUCCESS;
  return status;
}

// One call of the driver: told to CUPTI before and after `work`, which answers its status.
template <typename Params, typename Work>
__attribute__((noinline)) CUresult Call(CUpti_CallbackId id, const char* name, Params* params,
                                        const Work& work) {
  if (!g_initialized) return CUDA_ERROR_NOT_INITIALIZED;
  CUresult result = TakeStatus();
  uint64_t correlation = 0;
  CUpti_CallbackData data = {};
  data.callbackSite = CUPTI_API_ENTER;
  data.functionName = name;
  data.functionParams = params;
  data.functionReturnValue = &result;
  data.context = t_context;
  data.correlationData = &correlation;
  if (g_call != nullptr) g_call(CUPTI_CB_DOMAIN_DRIVER_API, id, &data);
  if (t_dies) kill(getpid(), SIGKILL);
  if (result == CUDA_SUCCESS) result = work();
  data.callbackSite = CUPTI_API_EXIT;
  if (g_call != nullptr) g_call(CUPTI_CB_DOMAIN_DRIVER_API, id, &data);
  return result;
}

void TellContext(CUpti_CallbackId id, CUcontext context) {
  CUpti_ResourceData data = {};
  data.context = context;
  if (g_call != nullptr) g_call(CUPTI_CB_DOMAIN_RESOURCE, id, &data);
}

void TellGraph(CUpti_CallbackId id, CUgraphExec exec) {
  CUpti_GraphData graph = {};
  graph.graphExec = exec;
  CUpti_ResourceData data = {};
  data.context = t_context;
  data.resourceDescriptor = &graph;
  if (g_call != nullptr) g_call(CUPTI_CB_DOMAIN_RESOURCE, id, &data);
}

void TellModule(size_t size) {
  CUpti_ModuleResourceData module = {};
  module.cubinSize = size;
  CUpti_ResourceData data = {};
  data.context = t_context;
  data.resourceDescriptor = &module;
  if (g_call != nullptr) g_call(CUPTI_CB_DOMAIN_RESOURCE, CUPTI_CBID_RESOURCE_MODULE_LOADED, &data);
}

template <typename Handle>
Handle As(uint64_t value) {
  return reinterpret_cast<Handle>(value);
}
template <typename Handle>
uint64_t Value(Handle handle) {
  return reinterpret_cast<uint64_t>(handle);
}

}  // namespace

#define ID(function) CUPTI_DRIVER_TRACE_CBID_##function, #function
#undef cuMemHostRegister  // the headers name the newest version so

extern "C" {

void FakeCudaFailNext(int status) { t_next_status = static_cast<CUresult>(status); }
void FakeCudaDieInNext() { t_dies = true; }
void FakeCudaNestNext() { t_nests = true; }
void FakeCudaLoadModule(size_t size) { TellModule(size); }

CUresult cuInit(unsigned) {
  if (g_initialized) return CUDA_SUCCESS;
  Inject();
  g_initialized = true;
  // As the real one: CUDA does not work in a child of fork.
  pthread_atfork(nullptr, nullptr, [] { g_initialized = false; });
  return CUDA_SUCCESS;
}

CUresult cuDriverGetVersion(int* version) {
  const char* const told = std::getenv("FAKE_DRIVER");
  *version = told == nullptr ? CUDA_VERSION : std::atoi(told);
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetPCIBusId(char* id, int size, CUdevice device) {
  snprintf(id, static_cast<size_t>(size), "0000:%02x:00.0", static_cast<unsigned>(device));
  return CUDA_SUCCESS;
}

CUresult FakeCudaCreateContext(CUcontext* context, int device) {
  *context = new CUctx_st{static_cast<uint32_t>(device)};
  t_context = *context;
  TellContext(CUPTI_CBID_RESOURCE_CONTEXT_CREATED, *context);
  return CUDA_SUCCESS;
}

// The name without a version is another one's in CUDA 13's headers.
CUresult cuCtxCreate_v2(CUcontext* context, unsigned, CUdevice device) {
  return FakeCudaCreateContext(context, device);
}

CUresult cuMemSetAccess(CUdeviceptr, size_t, const CUmemAccessDesc*, size_t) {
  return CUDA_SUCCESS;
}

// Of cuMemAlloc's blocks and their like.
uint64_t FakeCudaUsed() {
  const std::lock_guard<std::mutex> lock(g_mutex);
  uint64_t used = 0;
  for (const auto& [address, size] : g_sizes) used += size;
  return used;
}

CUresult cuCtxGetCurrent(CUcontext* context) {
  *context = t_context;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice* device) {
  if (t_context == nullptr) return CUDA_ERROR_INVALID_CONTEXT;
  *device = static_cast<CUdevice>(t_context->device);
  return CUDA_SUCCESS;
}

CUresult cuCtxSetCurrent(CUcontext context) {
  t_context = context;
  return CUDA_SUCCESS;
}

CUresult cuCtxDestroy(CUcontext context) {
  TellContext(CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING, context);
  if (t_context == context) t_context = nullptr;
  delete context;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxReset(CUdevice dev) {
  cuDevicePrimaryCtxReset_v2_params params = {dev};
  return Call(ID(cuDevicePrimaryCtxReset_v2), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuMemAlloc(CUdeviceptr* dptr, size_t bytesize) {
  cuMemAlloc_v2_params params = {dptr, bytesize};
  return Call(ID(cuMemAlloc_v2), &params, [&] {
    *dptr = Take(bytesize);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAllocPitch(CUdeviceptr* dptr, size_t* pitch, size_t width, size_t height,
                         unsigned element) {
  cuMemAllocPitch_v2_params params = {dptr, pitch, width, height, element};
  return Call(ID(cuMemAllocPitch_v2), &params, [&] {
    *pitch = (width + 511) / 512 * 512;
    if (t_nests) {
      t_nests = false;
      return cuMemAlloc(dptr, *pitch * height);
    }
    *dptr = Take(*pitch * height);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemFree(CUdeviceptr dptr) {
  cuMemFree_v2_params params = {dptr};
  return Call(ID(cuMemFree_v2), &params, [&] {
    if (t_nests) {
      t_nests = false;
      return cuMemFree(dptr);
    }
    GiveBack(dptr);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAllocManaged(CUdeviceptr* dptr, size_t bytesize, unsigned flags) {
  cuMemAllocManaged_params params = {dptr, bytesize, flags};
  return Call(ID(cuMemAllocManaged), &params, [&] {
    *dptr = Take(bytesize);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostAlloc(void** pp, size_t bytesize, unsigned flags) {
  cuMemHostAlloc_params params = {pp, bytesize, flags};
  return Call(ID(cuMemHostAlloc), &params, [&] {
    *pp = MapHost(bytesize);
    return *pp == nullptr ? CUDA_ERROR_OUT_OF_MEMORY : CUDA_SUCCESS;
  });
}

CUresult cuMemFreeHost(void* p) {
  cuMemFreeHost_params params = {p};
  return Call(ID(cuMemFreeHost), &params, [&] {
    UnmapHost(p);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemHostRegister_v2(void* p, size_t bytesize, unsigned flags) {
  cuMemHostRegister_v2_params params = {p, bytesize, flags};
  return Call(ID(cuMemHostRegister_v2), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuMemHostUnregister(void* p) {
  cuMemHostUnregister_params params = {p};
  return Call(ID(cuMemHostUnregister), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuMemAllocAsync(CUdeviceptr* dptr, size_t bytesize, CUstream stream) {
  cuMemAllocAsync_params params = {dptr, bytesize, stream};
  return Call(ID(cuMemAllocAsync), &params, [&] {
    *dptr = Take(bytesize);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAllocFromPoolAsync(CUdeviceptr* dptr, size_t bytesize, CUmemoryPool pool,
                                 CUstream stream) {
  cuMemAllocFromPoolAsync_params params = {dptr, bytesize, pool, stream};
  return Call(ID(cuMemAllocFromPoolAsync), &params, [&] {
    *dptr = Take(bytesize);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemFreeAsync(CUdeviceptr dptr, CUstream stream) {
  cuMemFreeAsync_params params = {dptr, stream};
  return Call(ID(cuMemFreeAsync), &params, [&] {
    GiveBack(dptr);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAddressReserve(CUdeviceptr* ptr, size_t size, size_t alignment, CUdeviceptr addr,
                             unsigned long long flags) {
  cuMemAddressReserve_params params = {ptr, size, alignment, addr, flags};
  return Call(ID(cuMemAddressReserve), &params, [&] {
    *ptr = Take(size);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemAddressFree(CUdeviceptr ptr, size_t size) {
  cuMemAddressFree_params params = {ptr, size};
  return Call(ID(cuMemAddressFree), &params, [&] {
    GiveBack(ptr);
    return CUDA_SUCCESS;
  });
}

// Handles are never used again here: what holds their memory is the ledgers' business.
CUresult cuMemCreate(CUmemGenericAllocationHandle* handle, size_t size,
                     const CUmemAllocationProp* prop, unsigned long long flags) {
  cuMemCreate_params params = {handle, size, prop, flags};
  return Call(ID(cuMemCreate), &params, [&] {
    *handle = Take(64);
    return CUDA_SUCCESS;
  });
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle) {
  cuMemRelease_params params = {handle};
  return Call(ID(cuMemRelease), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuMemRetainAllocationHandle(CUmemGenericAllocationHandle* handle, void* addr) {
  cuMemRetainAllocationHandle_params params = {handle, addr};
  // The script knows the handle: it hands it in.
  return Call(ID(cuMemRetainAllocationHandle), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuMemMap(CUdeviceptr ptr, size_t size, size_t offset, CUmemGenericAllocationHandle handle,
                  unsigned long long flags) {
  cuMemMap_params params = {ptr, size, offset, handle, flags};
  return Call(ID(cuMemMap), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuMemUnmap(CUdeviceptr ptr, size_t size) {
  cuMemUnmap_params params = {ptr, size};
  return Call(ID(cuMemUnmap), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuArrayCreate(CUarray* handle, const CUDA_ARRAY_DESCRIPTOR* descriptor) {
  cuArrayCreate_v2_params params = {handle, descriptor};
  return Call(ID(cuArrayCreate_v2), &params, [&] {
    *handle = As<CUarray>(Take(64));
    return CUDA_SUCCESS;
  });
}

CUresult cuArrayDestroy(CUarray array) {
  cuArrayDestroy_params params = {array};
  return Call(ID(cuArrayDestroy), &params, [&] {
    GiveBack(Value(array));
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphAddMemAllocNode(CUgraphNode* node, CUgraph graph, const CUgraphNode* dependencies,
                                size_t count, CUDA_MEM_ALLOC_NODE_PARAMS* node_params) {
  cuGraphAddMemAllocNode_params params = {node, graph, dependencies, count, node_params};
  return Call(ID(cuGraphAddMemAllocNode), &params, [&] {
    node_params->dptr = Take(node_params->bytesize);
    return CUDA_SUCCESS;
  });
}

CUresult cuGraphDestroy(CUgraph graph) {
  cuGraphDestroy_params params = {graph};
  return Call(ID(cuGraphDestroy), &params, [] { return CUDA_SUCCESS; });
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec* exec, CUgraph, unsigned long long) {
  *exec = As<CUgraphExec>(Take(64));
  TellGraph(CUPTI_CBID_RESOURCE_GRAPHEXEC_CREATED, *exec);
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec exec) {
  TellGraph(CUPTI_CBID_RESOURCE_GRAPHEXEC_DESTROY_STARTING, exec);
  GiveBack(Value(exec));
  return CUDA_SUCCESS;
}

CUresult cuIpcOpenMemHandle(CUdeviceptr* dptr, CUipcMemHandle handle, unsigned flags) {
  cuIpcOpenMemHandle_v2_params params = {dptr, handle, flags};
  return Call(ID(cuIpcOpenMemHandle_v2), &params, [&] {
    *dptr = Take(4096);
    return CUDA_SUCCESS;
  });
}

CUresult cuIpcCloseMemHandle(CUdeviceptr dptr) {
  cuIpcCloseMemHandle_params params = {dptr};
  return Call(ID(cuIpcCloseMemHandle), &params, [&] {
    GiveBack(dptr);
    return CUDA_SUCCESS;
  });
}

}  // extern "C"
