#include "cupti/nvml.h"

#include <dlfcn.h>

#include "preload/base/sys.h"

namespace ollamatrace::cupti {
namespace {

constexpr int kSuccess = 0;                       // NVML_SUCCESS
constexpr uint64_t kNotAvailable = ~uint64_t{0};  // NVML_VALUE_NOT_AVAILABLE

template <typename Function>
void Look(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
}

}  // namespace

void Nvml::Open(decltype(&cuDeviceGetPCIBusId) pci_bus_id) {
  if (pci_bus_id == nullptr) return;
  void* const library = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return;
  int (*init)() = nullptr;
  Look(library, "nvmlInit_v2", &init);
  if (init == nullptr || init() != kSuccess) return;
  Look(library, "nvmlDeviceGetHandleByPciBusId_v2", &device_by_bus_id_);
  Look(library, "nvmlDeviceGetMemoryInfo", &memory_);
  Look(library, "nvmlDeviceGetComputeRunningProcesses_v3", &processes_);
  pci_bus_id_ = pci_bus_id;
}

Nvml::Device Nvml::DeviceOf(uint32_t device) {
  if (device >= kDevices || pci_bus_id_ == nullptr || device_by_bus_id_ == nullptr) return nullptr;
  if (asked_[device]) return devices_[device];
  asked_[device] = true;
  char bus_id[32];
  if (pci_bus_id_(bus_id, sizeof bus_id, static_cast<CUdevice>(device)) != CUDA_SUCCESS ||
      device_by_bus_id_(bus_id, &devices_[device]) != kSuccess) {
    devices_[device] = nullptr;
  }
  return devices_[device];
}

uint64_t Nvml::BytesOfThisProcess(Device device) {
  unsigned count = kProcesses;
  if (processes_ == nullptr || processes_(device, &count, list_) != kSuccess) return kUnknownGauge;
  const auto pid = static_cast<unsigned>(sys::Getpid());
  for (unsigned i = 0; i < count && i < kProcesses; ++i) {
    if (list_[i].pid != pid) continue;
    return list_[i].used == kNotAvailable ? kUnknownGauge : list_[i].used;
  }
  return kUnknownGauge;
}

bool Nvml::Sample(uint32_t device, GpuSampleRecord* sample) {
  const Device handle = DeviceOf(device);
  if (handle == nullptr) return false;
  sample->device = device;
  Memory memory;
  if (memory_ != nullptr && memory_(handle, &memory) == kSuccess) {
    sample->used_bytes = memory.used;
    sample->total_bytes = memory.total;
  }
  sample->process_bytes = BytesOfThisProcess(handle);
  return true;
}

}  // namespace ollamatrace::cupti
