#include "cupti/callbacks.h"

#include <atomic>
#include <type_traits>

#include "cupti/driver_calls.h"
#include "cupti/ledgers.h"
#include "cupti/nvml.h"
#include "cupti/places.h"
#include "formats/encode.h"
#include "preload/base/lock.h"
#include "preload/base/signal_block.h"

namespace ollamatrace::cupti {
namespace {

const OllamatraceCaptureApi* g_api = nullptr;
DeviceOfContext g_device_of = nullptr;
uint32_t g_session = 0;
std::atomic<bool> g_exiting{false};
// CUDA does not work in a child of fork, and what the ledgers hold is the parent's.
std::atomic<bool> g_forked{false};

constexpr Domain kFreedByFree[] = {Domain::kDevice, Domain::kManaged, Domain::kPool, Domain::kGraph,
                                   Domain::kImported};
constexpr Domain kFreedByFreeAsync[] = {Domain::kPool, Domain::kDevice, Domain::kManaged,
                                        Domain::kGraph, Domain::kImported};
constexpr uint64_t kSampleWaitNs = 20'000'000;

FutexLock g_lock;  // around what follows
constinit Ledgers g_ledgers;
constinit Places g_places;

constinit Nvml g_nvml;  // of the drain's thread, once samples have started
// What a device's memory goes into that no allocation tells of, so far; read by the drain's thread.
struct Hidden {
  std::atomic<uint32_t> contexts{0};
  std::atomic<uint64_t> modules{0};
  std::atomic<uint64_t> module_bytes{0};
};
constexpr uint32_t kSampledDevices = 64;
constinit Hidden g_hidden[kSampledDevices];

// While one exists, the calling thread may use the ledgers and the trace.
class Access {
 public:
  explicit Access(const void* frame) {
    if (g_forked.load(std::memory_order_relaxed)) return;
    const uint32_t session = g_api->begin(frame);
    if (session == 0) return;
    if (session != g_session) {  // a fork that bypassed libc
      g_forked.store(true, std::memory_order_relaxed);
      g_api->end();
      return;
    }
    g_lock.Lock();
    granted_ = true;
  }
  ~Access() {
    if (!granted_) return;
    g_lock.Unlock();
    g_api->end();
  }
  Access(const Access&) = delete;
  Access& operator=(const Access&) = delete;
  explicit operator bool() const { return granted_; }

 private:
  const SignalBlock no_signals_;
  bool granted_ = false;
};

template <typename Handle>
uint64_t Number(Handle handle) {
  if constexpr (std::is_pointer_v<Handle>) {
    return reinterpret_cast<uint64_t>(handle);
  } else {
    return static_cast<uint64_t>(handle);
  }
}

const Places::Context* ContextOf(CUcontext context, bool created) {
  if (context == nullptr) return nullptr;
  const Places::Context* const known = created ? nullptr : g_places.FindContext(context);
  if (known != nullptr) return known;
  uint32_t device = kNoDevice;
  if (g_device_of(context, &device) != CUPTI_SUCCESS) device = kNoDevice;
  if (device < kSampledDevices) {
    g_hidden[device].contexts.fetch_add(1, std::memory_order_relaxed);
  }
  return g_places.AddContext(context, device);
}

// One call of the driver, at its begin or its end.
class DriverCall {
 public:
  DriverCall(const CUpti_CallbackData& data, const OllamatraceCaller& caller)
      : data_(data), caller_(caller) {}

  bool begins() const { return data_.callbackSite == CUPTI_API_ENTER; }
  CUresult status() const {
    return data_.functionReturnValue == nullptr
               ? CUDA_SUCCESS
               : *static_cast<const CUresult*>(data_.functionReturnValue);
  }
  bool succeeded() const { return !begins() && status() == CUDA_SUCCESS; }

  // An allocation of `size` bytes; `result()` is the address or the handle of a call that
  // succeeded.
  template <typename Result>
  void Allocates(Domain domain, uint64_t size, const Result& result, const void* stream = nullptr,
                 uint64_t owner = 0, uint32_t device = kNoDevice) const {
    if (begins()) {
      if (data_.correlationData != nullptr) *data_.correlationData = g_ledgers.Now();
      return;
    }
    const Places::Context* const context = ContextOf(data_.context, false);
    Allocation allocation;
    allocation.domain = domain;
    allocation.size = size;
    allocation.owner = owner;
    allocation.context = context == nullptr ? 0 : context->number;
    allocation.device = device != kNoDevice || context == nullptr ? device : context->device;
    allocation.stack = g_api->stack(
        &caller_, g_places.Find(data_.functionName == nullptr ? "?" : data_.functionName,
                                allocation.device, allocation.context, stream));
    if (status() != CUDA_SUCCESS) {
      g_ledgers.Failed(domain, size, static_cast<uint32_t>(status()), allocation.stack);
      return;
    }
    allocation.address = result();
    g_ledgers.Allocated(allocation,
                        data_.correlationData == nullptr ? ~uint64_t{0} : *data_.correlationData);
  }

  // `begin()` tells the ledgers what the call is about to end.
  template <typename Begin>
  void Ends(const Begin& begin) const {
    if (data_.correlationData == nullptr) {
      // It cannot be taken back.
      if (begins()) g_ledgers.End(begin(), 0);
    } else if (begins()) {
      *data_.correlationData = begin();
    } else {
      g_ledgers.End(*data_.correlationData, static_cast<uint32_t>(status()));
      *data_.correlationData = 0;
    }
  }
  template <size_t kCount>
  void Frees(const Domain (&domains)[kCount], uint64_t address) const {
    Ends([&] { return g_ledgers.BeginFree(domains, kCount, address); });
  }
  void Frees(Domain domain, uint64_t address) const {
    Ends([&] { return g_ledgers.BeginFree(&domain, 1, address); });
  }

 private:
  const CUpti_CallbackData& data_;
  const OllamatraceCaller& caller_;
};

uint64_t BytesOf(CUarray_format format) {
  switch (format) {
    case CU_AD_FORMAT_UNSIGNED_INT8:
    case CU_AD_FORMAT_SIGNED_INT8:
      return 1;
    case CU_AD_FORMAT_UNSIGNED_INT16:
    case CU_AD_FORMAT_SIGNED_INT16:
    case CU_AD_FORMAT_HALF:
      return 2;
    case CU_AD_FORMAT_UNSIGNED_INT32:
    case CU_AD_FORMAT_SIGNED_INT32:
    case CU_AD_FORMAT_FLOAT:
      return 4;
    default:
      return 1;  // compressed and planar formats: about a byte an element
  }
}

uint64_t AtLeastOne(uint64_t value) { return value == 0 ? 1 : value; }

// Computed from what was asked for: the driver does not tell what an array takes.
template <typename Descriptor>
uint64_t ArrayBytes(const Descriptor& array, uint64_t depth) {
  return AtLeastOne(array.Width) * AtLeastOne(array.Height) * AtLeastOne(depth) *
         AtLeastOne(array.NumChannels) * BytesOf(array.Format);
}

uint64_t MipmapBytes(CUDA_ARRAY3D_DESCRIPTOR array, unsigned levels) {
  uint64_t bytes = 0;
  for (unsigned level = 0; level < levels && level < 64; ++level) {
    bytes += ArrayBytes(array, array.Depth);
    array.Width /= 2;
    array.Height /= 2;
    array.Depth /= 2;
  }
  return bytes;
}

void OnGraphNode(const DriverCall& call, CUgraph graph, const CUgraphNodeParams* node) {
  if (node == nullptr || node->type != CU_GRAPH_NODE_TYPE_MEM_ALLOC) return;
  call.Allocates(
      Domain::kGraph, node->alloc.bytesize, [=] { return Number(node->alloc.dptr); }, nullptr,
      Number(graph));
}

void OnDriverCall(CUpti_CallbackId id, const void* params, const DriverCall& call) {
#define PARAMETERS(function) const auto& p = *static_cast<const function##_params*>(params)
#define CALL(function) case CUPTI_DRIVER_TRACE_CBID_##function
  switch (id) {
    CALL(cuMemAlloc_v2) : {
      PARAMETERS(cuMemAlloc_v2);
      return call.Allocates(Domain::kDevice, p.bytesize, [&] { return Number(*p.dptr); });
    }
    CALL(cuMemAllocPitch_v2) : {
      PARAMETERS(cuMemAllocPitch_v2);
      const uint64_t pitch = call.succeeded() ? *p.pPitch : p.WidthInBytes;
      return call.Allocates(Domain::kDevice, pitch * p.Height, [&] { return Number(*p.dptr); });
    }
    CALL(cuMemFree_v2) : {
      PARAMETERS(cuMemFree_v2);
      return call.Frees(kFreedByFree, Number(p.dptr));
    }
    CALL(cuMemAllocManaged) : {
      PARAMETERS(cuMemAllocManaged);
      return call.Allocates(Domain::kManaged, p.bytesize, [&] { return Number(*p.dptr); });
    }
    CALL(cuMemAllocHost_v2) : {
      PARAMETERS(cuMemAllocHost_v2);
      return call.Allocates(Domain::kPinned, p.bytesize, [&] { return Number(*p.pp); });
    }
    CALL(cuMemHostAlloc) : {
      PARAMETERS(cuMemHostAlloc);
      return call.Allocates(Domain::kPinned, p.bytesize, [&] { return Number(*p.pp); });
    }
    CALL(cuMemFreeHost) : {
      PARAMETERS(cuMemFreeHost);
      return call.Frees(Domain::kPinned, Number(p.p));
    }
    CALL(cuMemHostRegister) : {
      PARAMETERS(cuMemHostRegister);
      return call.Allocates(Domain::kRegistered, p.bytesize, [&] { return Number(p.p); });
    }
    CALL(cuMemHostRegister_v2) : {
      PARAMETERS(cuMemHostRegister_v2);
      return call.Allocates(Domain::kRegistered, p.bytesize, [&] { return Number(p.p); });
    }
    CALL(cuMemHostUnregister) : {
      PARAMETERS(cuMemHostUnregister);
      return call.Frees(Domain::kRegistered, Number(p.p));
    }
    CALL(cuMemAllocAsync) : CALL(cuMemAllocAsync_ptsz) : {
      PARAMETERS(cuMemAllocAsync);
      return call.Allocates(
          Domain::kPool, p.bytesize, [&] { return Number(*p.dptr); }, p.hStream);
    }
    CALL(cuMemAllocFromPoolAsync) : CALL(cuMemAllocFromPoolAsync_ptsz) : {
      PARAMETERS(cuMemAllocFromPoolAsync);
      return call.Allocates(
          Domain::kPool, p.bytesize, [&] { return Number(*p.dptr); }, p.hStream, Number(p.pool));
    }
    CALL(cuMemFreeAsync) : CALL(cuMemFreeAsync_ptsz) : {
      PARAMETERS(cuMemFreeAsync);
      return call.Frees(kFreedByFreeAsync, Number(p.dptr));
    }
    CALL(cuMemPoolImportPointer) : {
      PARAMETERS(cuMemPoolImportPointer);
      return call.Allocates(Domain::kImported, 0, [&] { return Number(*p.ptr_out); });
    }
    CALL(cuMemAddressReserve) : {
      PARAMETERS(cuMemAddressReserve);
      return call.Allocates(Domain::kAddressSpace, p.size, [&] { return Number(*p.ptr); });
    }
    CALL(cuMemAddressFree) : {
      PARAMETERS(cuMemAddressFree);
      return call.Frees(Domain::kAddressSpace, Number(p.ptr));
    }
    CALL(cuMemCreate) : {
      PARAMETERS(cuMemCreate);
      const bool on_device =
          p.prop != nullptr && p.prop->location.type == CU_MEM_LOCATION_TYPE_DEVICE;
      return call.Allocates(
          Domain::kVirtual, p.size, [&] { return Number(*p.handle); }, nullptr, 0,
          on_device ? static_cast<uint32_t>(p.prop->location.id) : kNoDevice);
    }
    CALL(cuMemRelease) : {
      PARAMETERS(cuMemRelease);
      return call.Ends([&] { return g_ledgers.BeginRelease(Number(p.handle)); });
    }
    CALL(cuMemRetainAllocationHandle) : {
      PARAMETERS(cuMemRetainAllocationHandle);
      if (call.succeeded()) g_ledgers.Retained(Number(*p.handle));
      return;
    }
    CALL(cuMemImportFromShareableHandle) : {
      PARAMETERS(cuMemImportFromShareableHandle);
      return call.Allocates(Domain::kImported, 0, [&] { return Number(*p.handle); });
    }
    CALL(cuMemMap) : {
      PARAMETERS(cuMemMap);
      return call.Allocates(
          Domain::kMapped, p.size, [&] { return Number(p.ptr); }, nullptr, Number(p.handle));
    }
    CALL(cuMemUnmap) : {
      PARAMETERS(cuMemUnmap);
      return call.Ends([&] { return g_ledgers.BeginUnmap(Number(p.ptr), p.size); });
    }
    CALL(cuGraphAddMemAllocNode) : {
      PARAMETERS(cuGraphAddMemAllocNode);
      if (p.nodeParams == nullptr) return;
      return call.Allocates(
          Domain::kGraph, p.nodeParams->bytesize, [&] { return Number(p.nodeParams->dptr); },
          nullptr, Number(p.hGraph));
    }
    CALL(cuGraphAddNode) : {
      PARAMETERS(cuGraphAddNode);
      return OnGraphNode(call, p.hGraph, p.nodeParams);
    }
    CALL(cuGraphAddNode_v2) : {
      PARAMETERS(cuGraphAddNode_v2);
      return OnGraphNode(call, p.hGraph, p.nodeParams);
    }
    CALL(cuGraphDestroy) : {
      PARAMETERS(cuGraphDestroy);
      return call.Ends([&] { return g_ledgers.BeginFreeOwned(Domain::kGraph, Number(p.hGraph)); });
    }
    CALL(cuArrayCreate_v2) : {
      PARAMETERS(cuArrayCreate_v2);
      return call.Allocates(Domain::kArray,
                            p.pAllocateArray == nullptr ? 0 : ArrayBytes(*p.pAllocateArray, 1),
                            [&] { return Number(*p.pHandle); });
    }
    CALL(cuArray3DCreate_v2) : {
      PARAMETERS(cuArray3DCreate_v2);
      return call.Allocates(
          Domain::kArray,
          p.pAllocateArray == nullptr ? 0 : ArrayBytes(*p.pAllocateArray, p.pAllocateArray->Depth),
          [&] { return Number(*p.pHandle); });
    }
    CALL(cuArrayDestroy) : {
      PARAMETERS(cuArrayDestroy);
      return call.Frees(Domain::kArray, Number(p.hArray));
    }
    CALL(cuMipmappedArrayCreate) : {
      PARAMETERS(cuMipmappedArrayCreate);
      return call.Allocates(Domain::kArray,
                            p.pMipmappedArrayDesc == nullptr
                                ? 0
                                : MipmapBytes(*p.pMipmappedArrayDesc, p.numMipmapLevels),
                            [&] { return Number(*p.pHandle); });
    }
    CALL(cuMipmappedArrayDestroy) : {
      PARAMETERS(cuMipmappedArrayDestroy);
      return call.Frees(Domain::kArray, Number(p.hMipmappedArray));
    }
    CALL(cuIpcOpenMemHandle) : {
      PARAMETERS(cuIpcOpenMemHandle);
      return call.Allocates(Domain::kImported, 0, [&] { return Number(*p.pdptr); });
    }
    CALL(cuIpcOpenMemHandle_v2) : {
      PARAMETERS(cuIpcOpenMemHandle_v2);
      return call.Allocates(Domain::kImported, 0, [&] { return Number(*p.pdptr); });
    }
    CALL(cuIpcCloseMemHandle) : {
      PARAMETERS(cuIpcCloseMemHandle);
      return call.Frees(Domain::kImported, Number(p.dptr));
    }
    CALL(cuImportExternalMemory) : {
      PARAMETERS(cuImportExternalMemory);
      return call.Allocates(Domain::kImported,
                            p.memHandleDesc == nullptr ? 0 : p.memHandleDesc->size,
                            [&] { return Number(*p.extMem_out); });
    }
    CALL(cuDestroyExternalMemory) : {
      PARAMETERS(cuDestroyExternalMemory);
      return call.Frees(Domain::kImported, Number(p.extMem));
    }
    CALL(cuDevicePrimaryCtxReset) : CALL(cuDevicePrimaryCtxReset_v2) : {
      PARAMETERS(cuDevicePrimaryCtxReset_v2);
      if (call.succeeded()) g_ledgers.ContextEnded(0, static_cast<uint32_t>(p.dev));
      return;
    }
    default:
      return;
  }
#undef CALL
#undef PARAMETERS
}

void OnGraphExec(CUpti_CallbackId id, const CUpti_ResourceData& data,
                 const OllamatraceCaller& caller) {
  const auto* const graph = static_cast<const CUpti_GraphData*>(data.resourceDescriptor);
  if (graph == nullptr) return;
  constexpr Domain kDomain = Domain::kGraphExec;
  if (id == CUPTI_CBID_RESOURCE_GRAPHEXEC_DESTROY_STARTING) {
    g_ledgers.End(g_ledgers.BeginFree(&kDomain, 1, Number(graph->graphExec)), 0);
    return;
  }
  const Places::Context* const context = ContextOf(data.context, false);
  Allocation allocation;
  allocation.domain = kDomain;
  allocation.address = Number(graph->graphExec);
  if (context != nullptr) {
    allocation.context = context->number;
    allocation.device = context->device;
  }
  allocation.stack = g_api->stack(
      &caller, g_places.Find("cuGraphInstantiate", allocation.device, allocation.context, nullptr));
  g_ledgers.Allocated(allocation, ~uint64_t{0});
}

// Its code takes memory on the device. Images that are loaded at their first use come one by one.
void OnModuleLoaded(const CUpti_ResourceData& data) {
  const auto* const module = static_cast<const CUpti_ModuleResourceData*>(data.resourceDescriptor);
  const Places::Context* const context = ContextOf(data.context, false);
  if (module == nullptr || context == nullptr || context->device >= kSampledDevices) return;
  Hidden& hidden = g_hidden[context->device];
  hidden.modules.fetch_add(1, std::memory_order_relaxed);
  hidden.module_bytes.fetch_add(module->cubinSize, std::memory_order_relaxed);
}

void OnResource(CUpti_CallbackId id, const CUpti_ResourceData& data,
                const OllamatraceCaller& caller) {
  switch (id) {
    case CUPTI_CBID_RESOURCE_CONTEXT_CREATED:
      ContextOf(data.context, true);
      return;
    case CUPTI_CBID_RESOURCE_CONTEXT_DESTROY_STARTING:
      if (g_exiting.load(std::memory_order_relaxed)) return;
      if (const Places::Context* const context = g_places.FindContext(data.context)) {
        g_ledgers.ContextEnded(context->number, kNoDevice);
        g_places.Forget(data.context);
      }
      return;
    case CUPTI_CBID_RESOURCE_MODULE_LOADED:
      return OnModuleLoaded(data);
    case CUPTI_CBID_RESOURCE_GRAPHEXEC_CREATED:
    case CUPTI_CBID_RESOURCE_GRAPHEXEC_DESTROY_STARTING:
      return OnGraphExec(id, data, caller);
    default:
      return;
  }
}

// On the drain's thread. Whoever has the lock may be waiting for the drain: it is not waited for
// long.
void OnSample() {
  if (!g_lock.LockFor(kSampleWaitNs)) return;
  g_ledgers.WriteLedgers();
  g_lock.Unlock();
  for (uint32_t device = 0; device < kSampledDevices; ++device) {
    const Hidden& hidden = g_hidden[device];
    GpuSampleRecord sample;
    sample.contexts = hidden.contexts.load(std::memory_order_relaxed);
    if (sample.contexts == 0) continue;
    sample.modules = hidden.modules.load(std::memory_order_relaxed);
    sample.module_bytes = hidden.module_bytes.load(std::memory_order_relaxed);
    sample.time_ns = g_api->now_ns();
    if (!g_nvml.Sample(device, &sample)) continue;
    uint8_t encoded[kGpuRecordBytes];
    g_api->define(encoded, EncodeGpuSample(sample, encoded));
  }
}

}  // namespace

void InitCallbacks(const OllamatraceCaptureApi* api, uint32_t session, DeviceOfContext device_of) {
  g_api = api;
  g_session = session;
  g_device_of = device_of;
  g_ledgers.Init(api);
  g_places.Init(api);
}

void StartSamples(decltype(&cuDeviceGetPCIBusId) pci_bus_id) {
  g_nvml.Open(pci_bus_id);
  g_api->on_sample(OnSample);
}

void OnCall(CUpti_CallbackDomain domain, CUpti_CallbackId id, const void* data,
            const OllamatraceCaller& caller) {
  const Access access(__builtin_frame_address(0));
  if (!access) return;
  if (domain == CUPTI_CB_DOMAIN_DRIVER_API) {
    const auto& call = *static_cast<const CUpti_CallbackData*>(data);
    if (call.functionParams == nullptr) return;
    OnDriverCall(id, call.functionParams, DriverCall(call, caller));
  } else if (domain == CUPTI_CB_DOMAIN_RESOURCE) {
    OnResource(id, *static_cast<const CUpti_ResourceData*>(data), caller);
  }
}

__attribute__((noinline)) void CUPTIAPI OnCallback(void*, CUpti_CallbackDomain domain,
                                                   CUpti_CallbackId id, const void* data) {
  if (data == nullptr) return;
  const OllamatraceCaller caller = OLLAMATRACE_CALLER();
  OnCall(domain, id, data, caller);
}

void OnProcessExit() { g_exiting.store(true, std::memory_order_relaxed); }

void OnForkInChild() { g_forked.store(true, std::memory_order_relaxed); }

}  // namespace ollamatrace::cupti
