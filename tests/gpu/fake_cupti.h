#ifndef OLLAMATRACE_TESTS_GPU_FAKE_CUPTI_H_
#define OLLAMATRACE_TESTS_GPU_FAKE_CUPTI_H_

#include <cupti.h>

// What the fake driver finds in the fake libcupti by dlsym: calls back whoever has subscribed, if
// the callback is enabled.
extern "C" void FakeCuptiCall(CUpti_CallbackDomain domain, CUpti_CallbackId id, const void* data);

#endif  // OLLAMATRACE_TESTS_GPU_FAKE_CUPTI_H_
