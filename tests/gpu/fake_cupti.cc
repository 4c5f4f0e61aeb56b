// A libcupti for machines without a GPU, made from the real headers: it calls back what the fake
// driver (fake_cuda.cc) tells it. What goes wrong with it is said by FAKE_CUPTI:
//
//   old         an API version from before CUDA 12
//   renamed     another name for a callback's number
//   taken       cuptiSubscribe answers 39, as under nsys
//   no-driver   cuptiSubscribe answers 999, as the real one does without a driver
//   no-enable   the tenth cuptiEnableCallback fails
//
// Built with FAKE_WITHOUT_SUBSCRIBE it lacks that function.

#include "tests/gpu/fake_cupti.h"

#include <cupti.h>

#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>

#include "cupti/driver_calls.h"

namespace {

struct State {
  std::mutex mutex;
  CUpti_CallbackFunc callback = nullptr;
  void* user_data = nullptr;
  std::set<std::pair<int, CUpti_CallbackId>> enabled;
  int enables = 0;
};
State& TheState() {
  static State* const state = new State;
  return *state;
}

bool Acts(const char* how) {
  const char* const fake = std::getenv("FAKE_CUPTI");
  return fake != nullptr && std::strcmp(fake, how) == 0;
}

}  // namespace

extern "C" {

CUptiResult CUPTIAPI cuptiGetVersion(uint32_t* version) {
  *version = Acts("old") ? 12 : CUPTI_API_VERSION;
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiGetCallbackName(CUpti_CallbackDomain domain, uint32_t id,
                                          const char** name) {
  if (domain != CUPTI_CB_DOMAIN_DRIVER_API) return CUPTI_ERROR_INVALID_PARAMETER;
  switch (id) {
#define NAMED(function)                    \
  case CUPTI_DRIVER_TRACE_CBID_##function: \
    *name = #function;                     \
    break;
    OLLAMATRACE_DRIVER_CALLS(NAMED)
#undef NAMED
    default:
      return CUPTI_ERROR_INVALID_PARAMETER;
  }
  if (Acts("renamed") && id == CUPTI_DRIVER_TRACE_CBID_cuMemFree_v2) *name = "cuMemFrob";
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiGetResultString(CUptiResult result, const char** text) {
  *text = result == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED
              ? "CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED"
          : result == CUPTI_ERROR_UNKNOWN ? "CUPTI_ERROR_UNKNOWN"
                                          : "CUPTI_ERROR_INVALID_OPERATION";
  return CUPTI_SUCCESS;
}

#ifndef FAKE_WITHOUT_SUBSCRIBE
CUptiResult CUPTIAPI cuptiSubscribe(CUpti_SubscriberHandle* subscriber, CUpti_CallbackFunc callback,
                                    void* user_data) {
  if (Acts("taken")) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  if (Acts("no-driver")) return CUPTI_ERROR_UNKNOWN;
  State& state = TheState();
  if (state.callback != nullptr) return CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED;
  state.callback = callback;
  state.user_data = user_data;
  *subscriber = reinterpret_cast<CUpti_SubscriberHandle>(&state);
  return CUPTI_SUCCESS;
}
#endif

CUptiResult CUPTIAPI cuptiUnsubscribe(CUpti_SubscriberHandle) {
  TheState().callback = nullptr;
  return CUPTI_SUCCESS;
}

CUptiResult CUPTIAPI cuptiEnableCallback(uint32_t enable, CUpti_SubscriberHandle,
                                         CUpti_CallbackDomain domain, CUpti_CallbackId id) {
  State& state = TheState();
  if (++state.enables == 10 && Acts("no-enable")) return CUPTI_ERROR_INVALID_OPERATION;
  if (enable != 0) state.enabled.emplace(domain, id);
  return CUPTI_SUCCESS;
}

// A fake context begins with its device's ordinal.
CUptiResult CUPTIAPI cuptiGetDeviceId(CUcontext context, uint32_t* device) {
  *device = *reinterpret_cast<const uint32_t*>(context);
  return CUPTI_SUCCESS;
}

__attribute__((visibility("default"), noinline)) void FakeCuptiCall(CUpti_CallbackDomain domain,
                                                                    CUpti_CallbackId id,
                                                                    const void* data) {
  const State& state = TheState();
  if (state.callback == nullptr || state.enabled.count({domain, id}) == 0) return;
  state.callback(state.user_data, domain, id, data);
}

}  // extern "C"
