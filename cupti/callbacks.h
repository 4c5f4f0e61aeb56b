#ifndef OLLAMATRACE_CUPTI_CALLBACKS_H_
#define OLLAMATRACE_CUPTI_CALLBACKS_H_

// What CUPTI calls before and after each call of the driver that the capture listens to, on the
// thread that makes it. Takes one lock, allocates nothing, calls nothing of CUDA's.

#include <cupti.h>

#include "preload/capture_api.h"

namespace ollamatrace::cupti {

// CUPTI's cuptiGetDeviceId.
using DeviceOfContext = CUptiResult(CUPTIAPI*)(CUcontext context, uint32_t* device);

// Before the first callback. `session` is what api->begin answers in this process. `device_of` may
// be nullptr: devices are not known then.
void InitCallbacks(const OllamatraceCaptureApi* api, uint32_t session, DeviceOfContext device_of);

// CUpti_CallbackFunc.
void CUPTIAPI OnCallback(void* user_data, CUpti_CallbackDomain domain, CUpti_CallbackId id,
                         const void* data);

// The process is about to end: contexts that the driver destroys on its way out take nothing along.
// What is live now is what the program left.
void OnProcessExit();

// From then on callbacks do nothing.
void OnForkInChild();

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_CALLBACKS_H_
