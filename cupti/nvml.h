#ifndef OLLAMATRACE_CUPTI_NVML_H_
#define OLLAMATRACE_CUPTI_NVML_H_

// What NVML (libnvidia-ml.so.1, part of the driver) tells of a device's memory: of all, and of this
// process. Found at run time; without it there are no samples.
//
// NVML numbers devices its own way: they are told apart by their PCI bus id, for which the driver
// is asked once for each device (cuDeviceGetPCIBusId), never in a callback.

#include <cuda.h>

#include <cstdint>

#include "formats/gpu_records.h"

namespace ollamatrace::cupti {

class Nvml {
 public:
  // Where the driver starts: it may take some milliseconds. `pci_bus_id` may be nullptr.
  void Open(decltype(&cuDeviceGetPCIBusId) pci_bus_id);
  // A device of that ordinal; false when nothing is known of it. The process's bytes are unknown
  // where NVML tells none for its pid: in a PID namespace it may know the process by another one.
  bool Sample(uint32_t device, GpuSampleRecord* sample);

 private:
  // As nvml.h has them (API version 2 and 3 of the functions).
  using Device = struct nvmlDevice_st*;
  struct Memory {
    unsigned long long total, free, used;
  };
  struct Process {
    unsigned pid;
    unsigned long long used;  // all ones: not available
    unsigned gpu_instance, compute_instance;
  };
  static constexpr uint32_t kDevices = 64;
  static constexpr unsigned kProcesses = 128;

  Device DeviceOf(uint32_t device);
  uint64_t BytesOfThisProcess(Device device);

  decltype(&cuDeviceGetPCIBusId) pci_bus_id_ = nullptr;
  int (*device_by_bus_id_)(const char*, Device*) = nullptr;
  int (*memory_)(Device, Memory*) = nullptr;
  int (*processes_)(Device, unsigned*, Process*) = nullptr;
  Device devices_[kDevices] = {};
  bool asked_[kDevices] = {};
  Process list_[kProcesses] = {};
};

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_NVML_H_
