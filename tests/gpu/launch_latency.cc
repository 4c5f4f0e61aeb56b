// P12: how long a launch of an empty kernel takes. Prints the median of a hundred batches, in
// nanoseconds a launch. The kernel is PTX that the driver compiles. Exit code 77: there is no GPU.

#include <cuda.h>
#include <dlfcn.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

namespace {

constexpr char kPtx[] =
    ".version 7.0\n.target sm_52\n.address_size 64\n.visible .entry empty() { ret; }\n";
constexpr int kBatches = 100, kLaunches = 1000;

template <typename Function>
Function* Driver(void* library, const char* name) {
  auto* const found = reinterpret_cast<Function*>(dlsym(library, name));
  if (found == nullptr) std::exit(1);
  return found;
}

void Check(CUresult status) {
  if (status == CUDA_SUCCESS) return;
  std::fprintf(stderr, "launch_latency: CUDA error %d\n", static_cast<int>(status));
  std::exit(1);
}

}  // namespace

int main() {
  void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  int devices = 0;
  if (library == nullptr || Driver<decltype(cuInit)>(library, "cuInit")(0) != CUDA_SUCCESS ||
      Driver<decltype(cuDeviceGetCount)>(library, "cuDeviceGetCount")(&devices) != CUDA_SUCCESS ||
      devices == 0) {
    std::printf("launch_latency: there is no GPU\n");
    return 77;
  }
  CUcontext context;
  CUmodule module;
  CUfunction kernel;
  Check(Driver<CUresult(CUcontext*, CUdevice)>(library, "cuDevicePrimaryCtxRetain")(&context, 0));
  Check(Driver<decltype(cuCtxSetCurrent)>(library, "cuCtxSetCurrent")(context));
  Check(Driver<decltype(cuModuleLoadData)>(library, "cuModuleLoadData")(&module, kPtx));
  Check(Driver<decltype(cuModuleGetFunction)>(library, "cuModuleGetFunction")(&kernel, module,
                                                                              "empty"));
  const auto launch = Driver<decltype(cuLaunchKernel)>(library, "cuLaunchKernel");
  const auto synchronize = Driver<CUresult()>(library, "cuCtxSynchronize");
  std::vector<double> batches;
  for (int batch = 0; batch < kBatches; ++batch) {
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kLaunches; ++i) {
      Check(launch(kernel, 1, 1, 1, 1, 1, 1, 0, nullptr, nullptr, nullptr));
    }
    const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - start;
    Check(synchronize());
    batches.push_back(took.count() / kLaunches);
  }
  std::nth_element(batches.begin(), batches.begin() + kBatches / 2, batches.end());
  std::printf("%.1f\n", batches[kBatches / 2]);
  return 0;
}
