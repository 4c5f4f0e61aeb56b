// Leaks GPU memory of each kind, and says what: for trying GPU capture out, and for tests/gpu/run.
//
// A line "expect DOMAIN FUNCTION BYTES BLOCKS" tells what the function left; "measured BYTES of
// BYTES" by how much cudaMemGetInfo fell over some allocations, and how much they asked for. Of
// each kind a block is freed, too. Needs no compiler for device code. Exit code 77: there is no
// GPU.

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

namespace {

#define KEEP __attribute__((noinline))

void Check(int status, const char* what) {
  if (status == 0) return;
  std::fprintf(stderr, "cuda_leak: %s failed: error %d\n", what, status);
  std::exit(1);
}
#define CHECK(call) Check(static_cast<int>(call), #call)

void Expect(const char* domain, const char* function, size_t bytes, size_t blocks) {
  std::printf("expect %s %s %zu %zu\n", domain, function, bytes, blocks);
}

// The driver's functions are looked up, as there is nothing to link against without a driver.
template <typename Function>
Function* Driver(const char* name) {
  static void* const library = dlopen("libcuda.so.1", RTLD_NOW);
  auto* const found =
      library == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(library, name));
  if (found == nullptr) Check(1, name);
  return found;
}

constexpr size_t kOdd = 3'000'001;

KEEP void LeakDevice() {
  void *a, *b, *freed;
  CHECK(cudaMalloc(&a, kOdd));
  CHECK(cudaMalloc(&freed, 2 * kOdd));
  CHECK(cudaMalloc(&b, kOdd));
  CHECK(cudaFree(freed));
  Expect("device", "LeakDevice", 2 * kOdd, 2);
}

KEEP void LeakManaged() {
  void *kept, *freed;
  CHECK(cudaMallocManaged(&kept, kOdd, cudaMemAttachGlobal));
  CHECK(cudaMallocManaged(&freed, kOdd, cudaMemAttachGlobal));
  CHECK(cudaFree(freed));
  Expect("managed", "LeakManaged", kOdd, 1);
}

KEEP void LeakPinned() {
  void *kept, *freed;
  CHECK(cudaMallocHost(&kept, kOdd));
  CHECK(cudaMallocHost(&freed, kOdd));
  CHECK(cudaFreeHost(freed));
  Expect("pinned", "LeakPinned", kOdd, 1);
}

KEEP void LeakRegistered() {
  void* const memory = std::aligned_alloc(4096, 8 * 4096);
  CHECK(cudaHostRegister(memory, 8 * 4096, 0));
  Expect("registered", "LeakRegistered", 8 * 4096, 1);
}

KEEP void LeakPool() {
  void *kept, *freed;
  CHECK(cudaMallocAsync(&kept, kOdd, nullptr));
  CHECK(cudaMallocAsync(&freed, kOdd, nullptr));
  CHECK(cudaFreeAsync(freed, nullptr));
  CHECK(cudaDeviceSynchronize());
  Expect("pool", "LeakPool", kOdd, 1);
}

KEEP void LeakArray() {
  const cudaChannelFormatDesc channels = {32, 32, 32, 32, cudaChannelFormatKindFloat};
  cudaArray_t kept, freed;
  CHECK(cudaMallocArray(&kept, &channels, 640, 480, 0));
  CHECK(cudaMallocArray(&freed, &channels, 64, 64, 0));
  CHECK(cudaFreeArray(freed));
  Expect("array", "LeakArray", size_t{640} * 480 * 16, 1);
}

KEEP void LeakGraphs() {
  cudaGraph_t graph;
  CHECK(cudaGraphCreate(&graph, 0));
  for (int i = 0; i < 4; ++i) {
    cudaGraphExec_t exec;
    CHECK(cudaGraphInstantiate(&exec, graph, 0));
    if (i == 0) CHECK(cudaGraphExecDestroy(exec));
  }
  Expect("graph-exec", "LeakGraphs", 0, 3);
}

// As ggml's pool: addresses for all it may ever need, and at each growth physical memory whose
// handle is released at once.
KEEP void GrowPool() {
  constexpr size_t kReserved = size_t{1} << 35, kPage = 2 << 20;
  const auto create = Driver<decltype(cuMemCreate)>("cuMemCreate");
  const auto map = Driver<decltype(cuMemMap)>("cuMemMap");
  const auto release = Driver<decltype(cuMemRelease)>("cuMemRelease");
  const auto access = Driver<decltype(cuMemSetAccess)>("cuMemSetAccess");
  CUdeviceptr pool = 0;
  CHECK(Driver<decltype(cuMemAddressReserve)>("cuMemAddressReserve")(&pool, kReserved, 0, 0, 0));
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  CUmemAccessDesc readable = {};
  readable.location = prop.location;
  readable.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE;
  size_t used = 0;
  for (const size_t size : {kPage, 4 * kPage, 16 * kPage}) {
    CUmemGenericAllocationHandle handle = 0;
    CHECK(create(&handle, size, &prop, 0));
    CHECK(map(pool + used, size, 0, handle, 0));
    CHECK(release(handle));
    CHECK(access(pool + used, size, &readable, 1));
    used += size;
  }
  Expect("address-space", "GrowPool", kReserved, 1);
  Expect("virtual", "GrowPool", used, 3);
  Expect("mapped", "GrowPool", used, 3);
}

KEEP void LeakInThread() {
  void *kept, *freed;
  CHECK(cudaMalloc(&kept, 70'000));
  for (int i = 0; i < 100; ++i) {
    CHECK(cudaMalloc(&freed, 50'000));
    CHECK(cudaFree(freed));
  }
}
KEEP void LeakInThreads() {
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; ++i) threads.emplace_back(LeakInThread);
  for (std::thread& thread : threads) thread.join();
  Expect("device", "LeakInThread", 4 * 70'000, 4);
}

// A context that stays, and one that takes its memory along.
KEEP void LeakInContext() {
  using Create = CUresult(CUcontext*, unsigned, CUdevice);
  const auto create = Driver<Create>("cuCtxCreate_v2");
  const auto allocate = Driver<CUresult(CUdeviceptr*, size_t)>("cuMemAlloc_v2");
  CUcontext kept, gone;
  CUdeviceptr block;
  CHECK(create(&kept, 0, 0));
  CHECK(allocate(&block, kOdd));
  CHECK(create(&gone, 0, 0));
  CHECK(allocate(&block, 2 * kOdd));
  CHECK(Driver<CUresult(CUcontext)>("cuCtxDestroy_v2")(gone));
  CHECK(Driver<CUresult(CUcontext)>("cuCtxSetCurrent")(kept));
  Expect("device", "LeakInContext", kOdd, 1);
}

KEEP void Measure() {
  size_t before, after, total;
  constexpr size_t kBlock = 64 << 20;
  CHECK(cudaMemGetInfo(&before, &total));
  for (int i = 0; i < 2; ++i) {
    void* block;
    CHECK(cudaMalloc(&block, kBlock));
  }
  CHECK(cudaMemGetInfo(&after, &total));
  std::printf("measured %zu of %zu\n", before - after, 2 * kBlock);
  Expect("device", "Measure", 2 * kBlock, 2);
}

}  // namespace

int main(int argc, char** argv) {
  int devices = 0;
  const auto status = cudaGetDeviceCount(&devices);
  if (status != cudaSuccess || devices == 0) {
    std::printf("cuda_leak: there is no GPU (cudaGetDeviceCount: %d)\n", static_cast<int>(status));
    return 77;
  }
  LeakDevice();
  LeakManaged();
  LeakPinned();
  LeakRegistered();
  LeakPool();
  LeakArray();
  LeakGraphs();
  GrowPool();
  LeakInThreads();
  Measure();
  LeakInContext();
  std::printf("done\n");
  std::fflush(stdout);
  // For a look at a process that runs: cuda_leak SECONDS.
  if (argc > 1) sleep(static_cast<unsigned>(std::atoi(argv[1])));
  return 0;
}
