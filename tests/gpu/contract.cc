// Prints what the headers that it was compiled with say of everything that GPU capture uses of
// CUPTI and the driver, a fact a line: numbers of callbacks, sizes of structures, places of their
// fields. The same lines from the headers of CUDA 12 and 13 mean that one capture library works
// with both.
#include <cupti.h>

#include <cstddef>
#include <cstdio>

#include "cupti/driver_calls.h"

#define SIZE(type) std::printf("size " #type " %zu\n", sizeof(type))
#define FIELD(type, field) \
  std::printf("field " #type "." #field " %zu %zu\n", offsetof(type, field), sizeof(type::field))

int main() {
#define CALL(function) \
  std::printf("driver " #function " %d\n", static_cast<int>(CUPTI_DRIVER_TRACE_CBID_##function));
  OLLAMATRACE_DRIVER_CALLS(CALL)
#undef CALL
#define CALL(name) \
  std::printf("resource " #name " %d\n", static_cast<int>(CUPTI_CBID_RESOURCE_##name));
  OLLAMATRACE_RESOURCE_CALLS(CALL)
#undef CALL
#define CALL(function) SIZE(function##_params);
  OLLAMATRACE_DRIVER_CALLS(CALL)
#undef CALL
  std::printf("domain driver %d\n", CUPTI_CB_DOMAIN_DRIVER_API);
  std::printf("domain resource %d\n", CUPTI_CB_DOMAIN_RESOURCE);
  std::printf("site %d %d\n", CUPTI_API_ENTER, CUPTI_API_EXIT);
  std::printf("error subscribers %d\n", CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED);
  std::printf("node type %d\n", CU_GRAPH_NODE_TYPE_MEM_ALLOC);
  std::printf("location type %d\n", CU_MEM_LOCATION_TYPE_DEVICE);
  SIZE(CUpti_CallbackData);
  FIELD(CUpti_CallbackData, callbackSite);
  FIELD(CUpti_CallbackData, functionName);
  FIELD(CUpti_CallbackData, functionParams);
  FIELD(CUpti_CallbackData, functionReturnValue);
  FIELD(CUpti_CallbackData, context);
  FIELD(CUpti_CallbackData, correlationData);
  SIZE(CUpti_ResourceData);
  FIELD(CUpti_ResourceData, context);
  FIELD(CUpti_ResourceData, resourceDescriptor);
  FIELD(CUpti_GraphData, graphExec);
  FIELD(CUpti_ModuleResourceData, cubinSize);
  FIELD(cuMemAlloc_v2_params, dptr);
  FIELD(cuMemAlloc_v2_params, bytesize);
  FIELD(cuMemAllocPitch_v2_params, pPitch);
  FIELD(cuMemAllocPitch_v2_params, WidthInBytes);
  FIELD(cuMemAllocPitch_v2_params, Height);
  FIELD(cuMemAllocManaged_params, bytesize);
  FIELD(cuMemHostAlloc_params, pp);
  FIELD(cuMemHostAlloc_params, bytesize);
  FIELD(cuMemHostRegister_v2_params, p);
  FIELD(cuMemHostRegister_v2_params, bytesize);
  FIELD(cuMemAllocAsync_params, dptr);
  FIELD(cuMemAllocAsync_params, bytesize);
  FIELD(cuMemAllocAsync_params, hStream);
  FIELD(cuMemAllocAsync_ptsz_params, hStream);
  FIELD(cuMemAllocFromPoolAsync_params, pool);
  FIELD(cuMemAllocFromPoolAsync_params, hStream);
  FIELD(cuMemAllocFromPoolAsync_ptsz_params, hStream);
  FIELD(cuMemFreeAsync_params, dptr);
  FIELD(cuMemFreeAsync_ptsz_params, dptr);
  FIELD(cuMemAddressReserve_params, ptr);
  FIELD(cuMemAddressReserve_params, size);
  FIELD(cuMemCreate_params, handle);
  FIELD(cuMemCreate_params, size);
  FIELD(cuMemCreate_params, prop);
  FIELD(cuMemMap_params, ptr);
  FIELD(cuMemMap_params, size);
  FIELD(cuMemMap_params, handle);
  FIELD(cuMemUnmap_params, size);
  FIELD(CUmemAllocationProp, location);
  FIELD(CUmemLocation, type);
  FIELD(CUmemLocation, id);
  FIELD(cuGraphAddMemAllocNode_params, hGraph);
  FIELD(cuGraphAddMemAllocNode_params, nodeParams);
  FIELD(CUDA_MEM_ALLOC_NODE_PARAMS, bytesize);
  FIELD(CUDA_MEM_ALLOC_NODE_PARAMS, dptr);
  FIELD(cuGraphAddNode_params, nodeParams);
  FIELD(cuGraphAddNode_v2_params, nodeParams);
  FIELD(CUgraphNodeParams, type);
  FIELD(CUgraphNodeParams, alloc);
  FIELD(CUDA_MEM_ALLOC_NODE_PARAMS_v2, bytesize);
  FIELD(CUDA_MEM_ALLOC_NODE_PARAMS_v2, dptr);
  FIELD(CUDA_ARRAY_DESCRIPTOR, Width);
  FIELD(CUDA_ARRAY_DESCRIPTOR, NumChannels);
  FIELD(CUDA_ARRAY3D_DESCRIPTOR, Depth);
  FIELD(CUDA_ARRAY3D_DESCRIPTOR, NumChannels);
  FIELD(CUDA_EXTERNAL_MEMORY_HANDLE_DESC, size);
  return 0;
}
