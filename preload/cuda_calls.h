/* Functions of CUDA that allocate and free, in front of which libollamatrace.so stands by their
 * names: X(function, number of parameters). What they mean is in cupti/interposed.cc, which is told
 * of them only where CUPTI cannot be used.
 *
 * All parameters are integers or pointers, six at most, so that each is in a register and one shape
 * of function fits all. Functions that take structures by value (cudaMalloc3D, cudaMalloc3DArray,
 * ...IpcOpenMemHandle) are left out for that.
 */
#ifndef OLLAMATRACE_PRELOAD_CUDA_CALLS_H_
#define OLLAMATRACE_PRELOAD_CUDA_CALLS_H_

#define OLLAMATRACE_CUDA_CALLS(X)   \
  X(cuMemAlloc_v2)                  \
  X(cuMemAllocPitch_v2)             \
  X(cuMemFree_v2)                   \
  X(cuMemAllocManaged)              \
  X(cuMemAllocHost_v2)              \
  X(cuMemHostAlloc)                 \
  X(cuMemFreeHost)                  \
  X(cuMemHostRegister_v2)           \
  X(cuMemHostUnregister)            \
  X(cuMemAllocAsync)                \
  X(cuMemAllocAsync_ptsz)           \
  X(cuMemAllocFromPoolAsync)        \
  X(cuMemAllocFromPoolAsync_ptsz)   \
  X(cuMemFreeAsync)                 \
  X(cuMemFreeAsync_ptsz)            \
  X(cuMemAddressReserve)            \
  X(cuMemAddressFree)               \
  X(cuMemCreate)                    \
  X(cuMemRelease)                   \
  X(cuMemRetainAllocationHandle)    \
  X(cuMemImportFromShareableHandle) \
  X(cuMemMap)                       \
  X(cuMemUnmap)                     \
  X(cuArrayCreate_v2)               \
  X(cuArray3DCreate_v2)             \
  X(cuArrayDestroy)                 \
  X(cuMipmappedArrayCreate)         \
  X(cuMipmappedArrayDestroy)        \
  X(cuGraphAddMemAllocNode)         \
  X(cuGraphDestroy)                 \
  X(cuGraphInstantiateWithFlags)    \
  X(cuGraphInstantiateWithParams)   \
  X(cuGraphExecDestroy)             \
  X(cuCtxDestroy_v2)                \
  X(cuDevicePrimaryCtxReset_v2)     \
  X(cudaMalloc)                     \
  X(cudaMallocPitch)                \
  X(cudaFree)                       \
  X(cudaMallocManaged)              \
  X(cudaMallocHost)                 \
  X(cudaHostAlloc)                  \
  X(cudaFreeHost)                   \
  X(cudaHostRegister)               \
  X(cudaHostUnregister)             \
  X(cudaMallocAsync)                \
  X(cudaMallocAsync_ptsz)           \
  X(cudaMallocFromPoolAsync)        \
  X(cudaMallocFromPoolAsync_ptsz)   \
  X(cudaFreeAsync)                  \
  X(cudaFreeAsync_ptsz)             \
  X(cudaMallocArray)                \
  X(cudaFreeArray)                  \
  X(cudaGraphInstantiate)           \
  X(cudaGraphInstantiateWithFlags)  \
  X(cudaGraphExecDestroy)           \
  X(cudaDeviceReset)

#endif /* OLLAMATRACE_PRELOAD_CUDA_CALLS_H_ */
