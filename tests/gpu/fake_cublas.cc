// A library that keeps memory of its own on the device, as cuBLAS does from its first use on. Like
// it, it calls the driver's functions by the addresses that the driver gives it.

#include <cuda.h>
#include <dlfcn.h>

extern "C" CUresult FakeCublasCreate(CUdeviceptr* workspace, size_t size) {
  void* const driver = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (driver == nullptr) return CUDA_ERROR_NOT_INITIALIZED;
  const auto alloc =
      reinterpret_cast<CUresult (*)(CUdeviceptr*, size_t)>(dlsym(driver, "cuMemAlloc_v2"));
  const CUresult result = alloc(workspace, size);
  dlclose(driver);
  return result;
}
