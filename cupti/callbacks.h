#ifndef OLLAMATRACE_CUPTI_CALLBACKS_H_
#define OLLAMATRACE_CUPTI_CALLBACKS_H_

// What CUPTI calls before and after each call of the driver that the capture listens to, on the
// thread that makes it. Takes one lock, allocates nothing, calls nothing of CUDA's.

#include <cupti.h>

#include "preload/capture_api.h"

namespace ollamatrace::cupti {

// CUPTI's cuptiGetDeviceId.
using DeviceOfContext = CUptiResult(CUPTIAPI*)(CUcontext context, uint32_t* device);

// Before the first callback. `session` is what api->begin answers in this process.
void InitCallbacks(const OllamatraceCaptureApi* api, uint32_t session, DeviceOfContext device_of);
// When the callbacks are enabled: from then on there are samples, of the ledgers and of NVML.
// `pci_bus_id` may be nullptr: none of NVML.
void StartSamples(decltype(&cuDeviceGetPCIBusId) pci_bus_id);

// CUpti_CallbackFunc.
void CUPTIAPI OnCallback(void* user_data, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                         const void* data);

// The same for a call that this library was told of by another way.
void OnCall(CUpti_CallbackDomain domain, CUpti_CallbackId id, const void* data,
            const OllamatraceCaller& caller);

// The process is about to end: contexts that the driver destroys on its way out take nothing along.
// What is live now is what the program left.
void OnProcessExit();

// From then on callbacks do nothing.
void OnForkInChild();

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_CALLBACKS_H_
