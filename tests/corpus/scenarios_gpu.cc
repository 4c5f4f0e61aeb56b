// corpus_gpu NAME: scenarios of GPU memory on the fake driver of tests/gpu, whose truth stands in
// gpu.json. The pools do what ggml's of the same names do.
#include <cuda.h>
#include <signal.h>

#include <cstddef>
#include <cstdlib>
#include <deque>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "tests/corpus/requests.h"
#include "tests/gpu/fake_cuda.h"

// A call's result goes nowhere, and is no tail call.
#define CUDA(call)                       \
  do {                                   \
    const CUresult result = call;        \
    if (result != CUDA_SUCCESS) abort(); \
    asm volatile("" : : "r"(result));    \
  } while (false)
#define KEEPER [[gnu::noinline]]

constexpr size_t kMegabyte = 1 << 20;

// ---- ggml's pools: their names are known to the advice.

class ggml_cuda_pool_vmm {
 public:
  KEEPER void alloc(size_t size) {
    if (size <= mapped_) return;
    const size_t more = (size - mapped_ + 2 * kMegabyte - 1) / (2 * kMegabyte) * 2 * kMegabyte;
    if (base_ == 0) CUDA(cuMemAddressReserve(&base_, 32ull << 30, 0, 0, 0));
    CUmemAllocationProp prop = {};
    prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
    prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
    CUmemGenericAllocationHandle handle;
    CUDA(cuMemCreate(&handle, more, &prop, 0));
    CUDA(cuMemMap(base_ + mapped_, more, 0, handle, 0));
    CUDA(cuMemRelease(handle));
    mapped_ += more;
  }

 private:
  CUdeviceptr base_ = 0;
  size_t mapped_ = 0;
};

class ggml_cuda_pool_leg {
 public:
  struct Buffer {
    CUdeviceptr address;
    size_t size;
  };
  KEEPER Buffer alloc(size_t size) {
    for (size_t i = 0; i < idle_.size(); ++i) {
      if (idle_[i].size < size) continue;
      const Buffer buffer = idle_[i];
      idle_.erase(idle_.begin() + static_cast<ptrdiff_t>(i));
      return buffer;
    }
    Buffer buffer = {0, size};
    CUDA(cuMemAlloc(&buffer.address, size));
    return buffer;
  }
  void free(Buffer buffer) { idle_.push_back(buffer); }

 private:
  std::vector<Buffer> idle_;
};

namespace {

void Serve(int requests, const std::function<void(int)>& answer) {
  for (int i = 0; i < requests; ++i) {
    answer(i);
    Answered();
  }
}

KEEPER CUdeviceptr UploadImage(size_t size) {
  CUdeviceptr address = 0;
  CUDA(cuMemAlloc(&address, size));
  return address;
}
KEEPER CUdeviceptr TakeScratch(size_t size) {
  CUdeviceptr address = 0;
  CUDA(cuMemAllocAsync(&address, size, nullptr));
  return address;
}
KEEPER void* PinStaging(size_t size) {
  void* memory = nullptr;
  CUDA(cuMemHostAlloc(&memory, size, 0));
  return memory;
}
KEEPER CUdeviceptr LoadLayer(size_t size) {
  CUdeviceptr address = 0;
  CUDA(cuMemAlloc(&address, size));
  return address;
}
KEEPER CUdeviceptr ShareTable(size_t size) {
  CUdeviceptr address = 0;
  CUDA(cuMemAllocManaged(&address, size, CU_MEM_ATTACH_GLOBAL));
  return address;
}
KEEPER CUarray MakeTexture() {
  CUarray array = nullptr;
  const CUDA_ARRAY_DESCRIPTOR descriptor = {256, 64, CU_AD_FORMAT_FLOAT, 4};
  CUDA(cuArrayCreate(&array, &descriptor));
  return array;
}

// What each request takes and gives back.
void Traffic() {
  for (int i = 0; i < 8; ++i) {
    CUdeviceptr address = 0;
    CUDA(cuMemAllocAsync(&address, 4096 * static_cast<size_t>(i + 1), nullptr));
    CUDA(cuMemFreeAsync(address, nullptr));
  }
}

// ---- Leaks

void DeviceLeak() {
  Serve(300, [](int) {
    Traffic();
    UploadImage(kMegabyte);
  });
}
void OneInTwenty() {
  Serve(800, [](int i) {
    Traffic();
    const CUdeviceptr image = UploadImage(3 * kMegabyte);
    if (i % 20 != 7) CUDA(cuMemFree(image));
  });
}
void PoolLeak() {
  Serve(300, [](int i) {
    const CUdeviceptr scratch = TakeScratch(128 << 10);
    if (i % 4 != 0) CUDA(cuMemFreeAsync(scratch, nullptr));
  });
}
void PinnedLeak() {
  Serve(300, [](int) { PinStaging(256 << 10); });
}
void ArrayLeak() {
  Serve(300, [](int) { MakeTexture(); });
}
void BesideTheModel() {
  for (int i = 0; i < 32; ++i) LoadLayer(64 * kMegabyte);
  Serve(300, [](int) { UploadImage(40'000); });
}
void KilledWhileLeaking() {
  Serve(300, [](int) { UploadImage(kMegabyte); });
  raise(SIGKILL);
}

// ---- Look-alikes

void ImageCache() {
  static auto& images = *new std::deque<CUdeviceptr>;
  Serve(500, [](int) {
    images.push_back(UploadImage(kMegabyte));
    if (images.size() <= 50) return;
    CUDA(cuMemFree(images.front()));
    images.pop_front();
  });
}
void MappedPool() {
  static auto& pool = *new ggml_cuda_pool_vmm;
  Serve(400, [](int i) { pool.alloc(static_cast<size_t>(i < 100 ? i + 1 : i % 100) * kMegabyte); });
}
// Buffers a little too small for what comes: each longer batch strands one more.
void StrandedBuffers() {
  static auto& pool = *new ggml_cuda_pool_leg;
  Serve(400, [](int i) {
    const size_t size = static_cast<size_t>(100 + (i < 60 ? i : i % 60)) * 10'000;
    pool.free(pool.alloc(size));
  });
}
void ModelLoaded() {
  for (int i = 0; i < 32; ++i) LoadLayer(64 * kMegabyte);
  Serve(300, [](int) { Traffic(); });
}
void KilledWithModel() {
  for (int i = 0; i < 32; ++i) LoadLayer(64 * kMegabyte);
  Serve(300, [](int) { Traffic(); });
  raise(SIGKILL);
}
void ManagedTable() {
  static CUdeviceptr tables[40];
  Serve(400, [](int i) {
    CUdeviceptr& table = tables[i % 40];
    if (table == 0) table = ShareTable(20'000);
  });
}
void HeavyTraffic() {
  Serve(400, [](int) {
    for (int i = 0; i < 10; ++i) Traffic();
  });
}
// A context that ends takes its memory with it, though nobody frees it.
void ContextsEnd() {
  for (int i = 0; i < 30; ++i) {
    CUcontext context = nullptr;
    CUDA(FakeCudaCreateContext(&context, 0));
    Serve(10, [](int) { UploadImage(kMegabyte); });
    CUDA(cuCtxDestroy(context));
  }
}

// ---- Loading and unloading

void Cycles(bool leave) {
  const timespec moment{0, 60'000'000};
  for (int cycle = 0; cycle < 4; ++cycle) {
    Phase(cycle == 0 ? "load" : "reload");
    std::vector<CUdeviceptr> layers;
    for (int i = 0; i < 20; ++i) layers.push_back(LoadLayer(16 * kMegabyte));
    nanosleep(&moment, nullptr);
    Phase("idle");
    Serve(20, [](int) { Traffic(); });
    Phase("unload");
    for (size_t i = leave ? 3 : 0; i < layers.size(); ++i) CUDA(cuMemFree(layers[i]));
    nanosleep(&moment, nullptr);
    Phase("end");
    nanosleep(&moment, nullptr);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::map<std::string, void (*)()> scenarios = {
      {"device_leak", DeviceLeak},
      {"one_in_twenty", OneInTwenty},
      {"pool_leak", PoolLeak},
      {"pinned_leak", PinnedLeak},
      {"array_leak", ArrayLeak},
      {"beside_the_model", BesideTheModel},
      {"killed_while_leaking", KilledWhileLeaking},
      {"image_cache", ImageCache},
      {"mapped_pool", MappedPool},
      {"stranded_buffers", StrandedBuffers},
      {"model_loaded", ModelLoaded},
      {"killed_with_model", KilledWithModel},
      {"managed_table", ManagedTable},
      {"heavy_traffic", HeavyTraffic},
      {"contexts_end", ContextsEnd},
      {"retained_after_unload", [] { Cycles(true); }},
      {"clean_unload", [] { Cycles(false); }},
  };
  const auto scenario = scenarios.find(argc == 2 ? argv[1] : "");
  if (scenario == scenarios.end()) return 2;
  CUcontext context = nullptr;
  CUDA(cuInit(0));
  CUDA(FakeCudaCreateContext(&context, 0));
  scenario->second();
  return 0;
}
