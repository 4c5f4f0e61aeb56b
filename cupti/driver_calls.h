#ifndef OLLAMATRACE_CUPTI_DRIVER_CALLS_H_
#define OLLAMATRACE_CUPTI_DRIVER_CALLS_H_

// The calls of the CUDA driver that the capture listens to, each once: X(function). Everything else
// about them is in callbacks.cc. Their numbers are the headers' CUPTI_DRIVER_TRACE_CBID_<function>;
// a libcupti that has another name for the number is not believed (injection.cc).
//
// Left out: calls of the 32-bit addresses of CUDA 3 (cuMemAlloc, cuMemFree and their like without
// _v2; cu64Mem*), which no 64-bit program makes; launches, for their cost; calls that only look at
// memory that others allocated (exports, graphics interoperability, multicast objects).

#define OLLAMATRACE_DRIVER_CALLS(X) \
  X(cuMemAlloc_v2)                  \
  X(cuMemAllocPitch_v2)             \
  X(cuMemFree_v2)                   \
  X(cuMemAllocManaged)              \
  X(cuMemAllocHost_v2)              \
  X(cuMemHostAlloc)                 \
  X(cuMemFreeHost)                  \
  X(cuMemHostRegister)              \
  X(cuMemHostRegister_v2)           \
  X(cuMemHostUnregister)            \
  X(cuMemAllocAsync)                \
  X(cuMemAllocAsync_ptsz)           \
  X(cuMemAllocFromPoolAsync)        \
  X(cuMemAllocFromPoolAsync_ptsz)   \
  X(cuMemFreeAsync)                 \
  X(cuMemFreeAsync_ptsz)            \
  X(cuMemPoolImportPointer)         \
  X(cuMemAddressReserve)            \
  X(cuMemAddressFree)               \
  X(cuMemCreate)                    \
  X(cuMemRelease)                   \
  X(cuMemRetainAllocationHandle)    \
  X(cuMemImportFromShareableHandle) \
  X(cuMemMap)                       \
  X(cuMemUnmap)                     \
  X(cuGraphAddMemAllocNode)         \
  X(cuGraphAddNode)                 \
  X(cuGraphAddNode_v2)              \
  X(cuGraphDestroy)                 \
  X(cuArrayCreate_v2)               \
  X(cuArray3DCreate_v2)             \
  X(cuArrayDestroy)                 \
  X(cuMipmappedArrayCreate)         \
  X(cuMipmappedArrayDestroy)        \
  X(cuIpcOpenMemHandle)             \
  X(cuIpcOpenMemHandle_v2)          \
  X(cuIpcCloseMemHandle)            \
  X(cuImportExternalMemory)         \
  X(cuDestroyExternalMemory)        \
  X(cuDevicePrimaryCtxReset)        \
  X(cuDevicePrimaryCtxReset_v2)

// Likewise of the resource domain: CUPTI_CBID_RESOURCE_<name>.
#define OLLAMATRACE_RESOURCE_CALLS(X) \
  X(CONTEXT_CREATED)                  \
  X(CONTEXT_DESTROY_STARTING)         \
  X(MODULE_LOADED)                    \
  X(GRAPHEXEC_CREATED)                \
  X(GRAPHEXEC_DESTROY_STARTING)

#endif  // OLLAMATRACE_CUPTI_DRIVER_CALLS_H_
