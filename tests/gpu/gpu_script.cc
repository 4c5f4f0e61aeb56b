// Makes the driver's calls that a script asks for: gpu_script FILE. A line is a command:
//
//   init, context NAME DEVICE, current NAME, destroy NAME, reset DEVICE
//   device|managed|pinned|pool|reserve|import NAME SIZE
//   pitch|array NAME WIDTH HEIGHT
//   free|free-host|free-async|free-array|close NAME, unreserve NAME SIZE
//   register NAME SIZE, unregister NAME         memory of malloc
//   create NAME SIZE DEVICE, release|retain NAME
//   map NAME AT OFFSET HANDLE SIZE              at an address that was reserved
//   unmap AT OFFSET SIZE
//   graph NAME, node NAME GRAPH SIZE, free-graph GRAPH
//   exec NAME, free-exec NAME
//   module NAME SIZE, cublas NAME SIZE
//   user FUNCTION NAME A B                      of runtime_user.cc, loaded by RTLD_LOCAL
//   fail STATUS, nest, die                      the next call
//   threads COUNT TIMES SIZE                    each frees all but its last
//   churn TIMES SIZE                            blocks of a pool that die at once
//   uses BYTES                                  what NVML tells of this process
//   looks COUNT                                 waits until NVML was asked so often once more
//   fork, kill, print TEXT, load LIBRARY
//
// The functions that make the calls are the frames that the tests look for.

#include <cuda.h>
#include <dlfcn.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include "tests/gpu/fake_cuda.h"

#define KEEP __attribute__((noinline))
// A call's result stays in a register of its own: no tail call.
#define DO(call)                    \
  const CUresult result = call;     \
  asm volatile("" : : "r"(result)); \
  return result

namespace {

KEEP CUresult AllocDevice(CUdeviceptr* address, size_t size) { DO(cuMemAlloc(address, size)); }
KEEP CUresult AllocPitch(CUdeviceptr* address, size_t width, size_t height) {
  size_t pitch;
  DO(cuMemAllocPitch(address, &pitch, width, height, 4));
}
KEEP CUresult AllocManaged(CUdeviceptr* address, size_t size) {
  DO(cuMemAllocManaged(address, size, CU_MEM_ATTACH_GLOBAL));
}
KEEP CUresult AllocPinned(void** address, size_t size) { DO(cuMemHostAlloc(address, size, 0)); }
KEEP CUresult AllocPool(CUdeviceptr* address, size_t size, CUstream stream) {
  DO(cuMemAllocAsync(address, size, stream));
}
KEEP CUresult Reserve(CUdeviceptr* address, size_t size) {
  DO(cuMemAddressReserve(address, size, 0, 0, 0));
}
KEEP CUresult CreatePhysical(CUmemGenericAllocationHandle* handle, size_t size, int device) {
  CUmemAllocationProp prop = {};
  prop.type = CU_MEM_ALLOCATION_TYPE_PINNED;
  prop.location.type = CU_MEM_LOCATION_TYPE_DEVICE;
  prop.location.id = device;
  DO(cuMemCreate(handle, size, &prop, 0));
}
KEEP CUresult Map(CUdeviceptr at, size_t size, CUmemGenericAllocationHandle handle) {
  DO(cuMemMap(at, size, 0, handle, 0));
}
KEEP CUresult CreateArray(CUarray* array, size_t width, size_t height) {
  const CUDA_ARRAY_DESCRIPTOR descriptor = {width, height, CU_AD_FORMAT_FLOAT, 4};
  DO(cuArrayCreate(array, &descriptor));
}
KEEP CUresult AddNode(CUgraph graph, size_t size) {
  CUgraphNode node = nullptr;
  CUDA_MEM_ALLOC_NODE_PARAMS params = {};
  params.bytesize = size;
  DO(cuGraphAddMemAllocNode(&node, graph, nullptr, 0, &params));
}
KEEP CUresult Instantiate(CUgraphExec* exec) { DO(cuGraphInstantiateWithFlags(exec, nullptr, 0)); }
KEEP CUresult RegisterHost(void* memory, size_t size) { DO(cuMemHostRegister(memory, size, 0)); }
KEEP CUresult OpenIpc(CUdeviceptr* address) {
  const CUipcMemHandle handle = {};
  DO(cuIpcOpenMemHandle(address, handle, 0));
}

KEEP void Worker(int times, size_t size) {
  CUdeviceptr kept = 0;
  for (int i = 0; i < times; ++i) {
    if (kept != 0) cuMemFree(kept);
    if (AllocDevice(&kept, size) != CUDA_SUCCESS) std::abort();
  }
}

class Script {
 public:
  // False: no such command.
  bool Run(const std::string& command, std::istringstream& words) {
    std::string name;
    if (command == "init") return cuInit(0), true;
    if (command == "kill") return kill(getpid(), SIGKILL), true;
    if (command == "fork") return Fork(), true;
    if (command == "nest") return FakeCudaNestNext(), true;
    if (command == "die") return FakeCudaDieInNext(), true;
    if (command == "fail") return FakeCudaFailNext(static_cast<int>(Take(words))), true;
    if (command == "reset") return cuDevicePrimaryCtxReset(static_cast<int>(Take(words))), true;
    if (command == "threads") return Threads(words), true;
    if (command == "looks") return AwaitLooks(Take(words)), true;
    if (command == "uses") return Use(Take(words)), true;
    if (command == "churn") return Churn(words), true;
    words >> name;
    if (command == "user") return CallUser(name, words), true;
    if (command == "print") return std::cout << name << "\n", true;
    if (command == "load") return dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL) != nullptr;
    if (command == "context") {
      return FakeCudaCreateContext(&contexts_[name], static_cast<int>(Take(words))), true;
    }
    if (command == "current") return cuCtxSetCurrent(contexts_[name]), true;
    if (command == "destroy") return cuCtxDestroy(contexts_[name]), true;
    return Allocate(command, name, words) || End(command, name, words);
  }

 private:
  static size_t Take(std::istringstream& words) {
    size_t number = 0;
    if (!(words >> number)) std::abort();
    return number;
  }

  CUdeviceptr* Address(const std::string& name) {
    return reinterpret_cast<CUdeviceptr*>(&values_[name]);
  }
  template <typename Handle>
  Handle* As(const std::string& name) {
    return reinterpret_cast<Handle*>(&values_[name]);
  }

  bool Allocate(const std::string& command, const std::string& name, std::istringstream& words) {
    if (command == "module") return FakeCudaLoadModule(Take(words)), true;
    if (command == "cublas") return Cublas(Address(name), Take(words)), true;
    if (command == "device") return AllocDevice(Address(name), Take(words)), true;
    if (command == "managed") return AllocManaged(Address(name), Take(words)), true;
    if (command == "pinned") return AllocPinned(As<void*>(name), Take(words)), true;
    if (command == "pool") return AllocPool(Address(name), Take(words), nullptr), true;
    if (command == "reserve") return Reserve(Address(name), Take(words)), true;
    if (command == "import") return OpenIpc(Address(name)), true;
    if (command == "exec") return Instantiate(As<CUgraphExec>(name)), true;
    if (command == "pitch" || command == "array") {
      const size_t width = Take(words), height = Take(words);
      if (command == "pitch") return AllocPitch(Address(name), width, height), true;
      return CreateArray(As<CUarray>(name), width, height), true;
    }
    if (command == "create") {
      const size_t size = Take(words);
      CreatePhysical(Address(name), size, static_cast<int>(Take(words)));
      return true;
    }
    if (command == "map") {
      std::string at, handle;
      words >> at;
      const size_t offset = Take(words);
      words >> handle;
      values_[name] = values_[at] + offset;
      return Map(values_[name], Take(words), values_[handle]), true;
    }
    if (command == "node") {
      std::string graph;
      words >> graph;
      return AddNode(*As<CUgraph>(graph), Take(words)), true;
    }
    if (command == "register") {
      const size_t size = Take(words);
      values_[name] = reinterpret_cast<uint64_t>(std::malloc(size));
      return RegisterHost(*As<void*>(name), size), true;
    }
    return false;
  }

  bool End(const std::string& command, const std::string& name, std::istringstream& words) {
    const uint64_t value = values_[name];
    if (command == "free") return cuMemFree(value), true;
    if (command == "free-async") return cuMemFreeAsync(value, nullptr), true;
    if (command == "free-host") return cuMemFreeHost(*As<void*>(name)), true;
    if (command == "unreserve") return cuMemAddressFree(value, Take(words)), true;
    if (command == "release") return cuMemRelease(value), true;
    if (command == "retain") {
      return cuMemRetainAllocationHandle(Address(name), nullptr), true;
    }
    if (command == "unmap") {
      const size_t offset = Take(words);
      return cuMemUnmap(value + offset, Take(words)), true;
    }
    if (command == "free-array") return cuArrayDestroy(*As<CUarray>(name)), true;
    if (command == "free-graph") return cuGraphDestroy(*As<CUgraph>(name)), true;
    if (command == "free-exec") return cuGraphExecDestroy(*As<CUgraphExec>(name)), true;
    if (command == "close") return cuIpcCloseMemHandle(value), true;
    if (command == "unregister") return cuMemHostUnregister(*As<void*>(name)), true;
    if (command == "graph") return values_[name] = ++graphs_ << 12, true;
    return false;
  }

  static void Threads(std::istringstream& words) {
    const size_t count = Take(words), times = Take(words), size = Take(words);
    std::vector<std::thread> threads;
    for (size_t i = 0; i < count; ++i) {
      threads.emplace_back(Worker, static_cast<int>(times), size);
    }
    for (std::thread& thread : threads) thread.join();
  }

  static void Churn(std::istringstream& words) {
    const size_t times = Take(words), size = Take(words);
    for (size_t i = 0; i < times; ++i) {
      CUdeviceptr address = 0;
      AllocPool(&address, size, nullptr);
      cuMemFreeAsync(address, nullptr);
    }
  }

  // Of a library that is loaded: nullptr when it is not.
  template <typename Function>
  static Function* Find(const char* library, const char* name) {
    void* const handle = dlopen(library, RTLD_NOW | RTLD_NOLOAD);
    return handle == nullptr ? nullptr : reinterpret_cast<Function*>(dlsym(handle, name));
  }

  static void AwaitLooks(uint64_t count) {
    const auto looks = Find<uint64_t()>("libnvidia-ml.so.1", "FakeNvmlLooks");
    if (looks == nullptr) return;
    const uint64_t last = looks() + count;
    // The library's thread starts at an allocation of a process that is no longer young.
    for (int i = 0; looks() < last; ++i) {
      if (i == 30000) std::abort();
      void* volatile block = std::malloc(32);
      std::free(block);
      usleep(1000);
    }
  }

  static void Use(uint64_t bytes) {
    if (const auto use = Find<void(uint64_t)>("libnvidia-ml.so.1", "FakeNvmlUse")) use(bytes);
  }

  void CallUser(const std::string& function, std::istringstream& words) {
    std::string name;
    words >> name;
    const size_t a = Take(words), b = Take(words);
    static void* const library = dlopen("libruntime_user.so", RTLD_NOW | RTLD_LOCAL);
    if (library == nullptr) std::abort();
    using User = int(uint64_t*, uint64_t, uint64_t);
    const auto user = reinterpret_cast<User*>(dlsym(library, function.c_str()));
    if (user == nullptr) std::abort();
    user(&values_[name], a, b);
  }

  static void Cublas(CUdeviceptr* workspace, size_t size) {
    constexpr const char* kLibrary = "libcublas.so." FAKE_MAJOR;
    dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
    Find<CUresult(CUdeviceptr*, size_t)>(kLibrary, "FakeCublasCreate")(workspace, size);
  }

  static void Fork() {
    const pid_t child = fork();
    if (child == 0) {
      CUdeviceptr address = 0;
      const bool works = AllocDevice(&address, 12345) == CUDA_SUCCESS;
      std::free(std::malloc(77));
      std::exit(works ? 1 : 0);
    }
    int status = 0;
    waitpid(child, &status, 0);
    std::printf("child %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -1);
  }

  std::map<std::string, uint64_t> values_;
  std::map<std::string, CUcontext> contexts_;
  uint64_t graphs_ = 0;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::ifstream file(argv[1]);
  Script script;
  std::string line;
  while (std::getline(file, line)) {
    std::istringstream words(line);
    std::string command;
    if (!(words >> command)) continue;
    if (script.Run(command, words)) continue;
    std::fprintf(stderr, "no such command: %s\n", line.c_str());
    return 2;
  }
  std::printf("done\n");
  return 0;
}
