// InitializeInjection: what the CUDA driver calls when it starts, in the library that
// CUDA_INJECTION64_PATH names. Whatever goes wrong, the driver goes on; the reason is in the trace.

#include <cupti.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

#include <atomic>

#include "cupti/callbacks.h"
#include "cupti/driver_calls.h"
#include "cupti/find_cupti.h"
#include "cupti/interposed.h"
#include "formats/gpu_records.h"
#include "preload/base/text.h"
#include "preload/capture_api.h"

extern "C" int __cxa_atexit(void (*)(void*), void*, void*);

namespace ollamatrace::cupti {
namespace {

// CUDA 12.0's. Those before 13 count from 1; 13.0's is 130000.
constexpr uint32_t kOldestApi = 18;

struct Cupti {
  decltype(&cuptiGetVersion) get_version;
  decltype(&cuptiGetCallbackName) get_callback_name;
  decltype(&cuptiSubscribe) subscribe;
  decltype(&cuptiUnsubscribe) unsubscribe;
  decltype(&cuptiEnableCallback) enable_callback;
  decltype(&cuptiGetResultString) get_result_string;
  DeviceOfContext get_device_id;
};

struct DriverCallName {
  CUpti_CallbackId id;
  const char* name;
};
constexpr DriverCallName kDriverCalls[] = {
#define NAMED(function) {CUPTI_DRIVER_TRACE_CBID_##function, #function},
    OLLAMATRACE_DRIVER_CALLS(NAMED)
#undef NAMED
};
constexpr CUpti_CallbackId kResourceCalls[] = {
#define NAMED(name) CUPTI_CBID_RESOURCE_##name,
    OLLAMATRACE_RESOURCE_CALLS(NAMED)
#undef NAMED
};

const OllamatraceCaptureApi* g_api = nullptr;
FoundCupti g_found;
char g_text[1024];  // the reason

void Unavailable(const char* reason, const char* where) {
  g_api->capture_state(static_cast<uint32_t>(GpuCaptureState::kUnavailable), reason, where);
}

const OllamatraceCaptureApi* FindApi() {
  const auto find =
      reinterpret_cast<OllamatraceCaptureApiFunction>(dlsym(RTLD_DEFAULT, OLLAMATRACE_CAPTURE_API));
  return find == nullptr ? nullptr : find(OLLAMATRACE_CAPTURE_API_VERSION);
}

// The driver that is starting. It stays loaded: it has loaded this.
struct Driver {
  decltype(&cuDriverGetVersion) get_version = nullptr;
  decltype(&cuDeviceGetPCIBusId) pci_bus_id = nullptr;
  CurrentContext current;
};

template <typename Function>
void Look(void* library, const char* name, Function* function) {
  *function = reinterpret_cast<Function>(dlsym(library, name));
}

Driver FindDriver() {
  Driver driver;
  void* const library = dlopen("libcuda.so.1", RTLD_NOW | RTLD_NOLOAD);
  if (library == nullptr) return driver;
  Look(library, "cuDriverGetVersion", &driver.get_version);
  Look(library, "cuDeviceGetPCIBusId", &driver.pci_bus_id);
  Look(library, "cuCtxGetCurrent", &driver.current.get);
  Look(library, "cuCtxGetDevice", &driver.current.get_device);
  dlclose(library);
  return driver;
}

// 0: not known.
int VersionOf(const Driver& driver) {
  int version = 0;
  if (driver.get_version == nullptr || driver.get_version(&version) != CUDA_SUCCESS) return 0;
  return version;
}

// Of this library, with a slash at its end.
void OwnFolder(char (&folder)[kMaxPath]) {
  Dl_info info;
  TextWriter text(folder, sizeof folder);
  if (dladdr(&g_found, &info) == 0) return;
  text.Put(info.dli_fname, static_cast<size_t>(BaseName(info.dli_fname) - info.dli_fname));
}

template <typename Function>
bool LookFor(const char* name, Function* function) {
  Look(g_found.handle, name, function);
  if (*function != nullptr) return true;
  TextWriter(g_text, sizeof g_text).Put("what was loaded has no ").Put(name).Put(": no libcupti");
  return false;
}

bool LookUp(Cupti* cupti) {
  return LookFor("cuptiGetVersion", &cupti->get_version) &&
         LookFor("cuptiGetCallbackName", &cupti->get_callback_name) &&
         LookFor("cuptiSubscribe", &cupti->subscribe) &&
         LookFor("cuptiUnsubscribe", &cupti->unsubscribe) &&
         LookFor("cuptiEnableCallback", &cupti->enable_callback) &&
         LookFor("cuptiGetResultString", &cupti->get_result_string) &&
         LookFor("cuptiGetDeviceId", &cupti->get_device_id);
}

// "cuptiSubscribe failed: CUPTI_ERROR_... (39)".
TextWriter Failure(const Cupti& cupti, const char* function, CUptiResult result) {
  const char* name = nullptr;
  if (cupti.get_result_string(result, &name) != CUPTI_SUCCESS || name == nullptr) name = "error";
  TextWriter text(g_text, sizeof g_text);
  text.Put(function).Put(" failed: ").Put(name).Put(" (").Number(static_cast<uint64_t>(result));
  text.Put(')');
  return text;
}

// Whether this libcupti numbers the driver's calls as the headers did that this was built with.
bool NamesAgree(const Cupti& cupti) {
  for (const DriverCallName& call : kDriverCalls) {
    const char* name = nullptr;
    const CUptiResult result = cupti.get_callback_name(CUPTI_CB_DOMAIN_DRIVER_API, call.id, &name);
    if (result == CUPTI_SUCCESS && name != nullptr && TextEquals(name, call.name)) continue;
    TextWriter(g_text, sizeof g_text)
        .Put("this libcupti calls ")
        .Put(name == nullptr || result != CUPTI_SUCCESS ? "nothing" : name)
        .Put(" what is ")
        .Put(call.name)
        .Put(" here (callback ")
        .Number(call.id)
        .Put(')');
    return false;
  }
  return true;
}

bool Subscribe(const Cupti& cupti, uint32_t session) {
  uint32_t api_version = 0;
  CUptiResult result = cupti.get_version(&api_version);
  if (result != CUPTI_SUCCESS) return Failure(cupti, "cuptiGetVersion", result), false;
  if (api_version < kOldestApi) {
    TextWriter(g_text, sizeof g_text)
        .Put("this libcupti is too old (API version ")
        .Number(api_version)
        .Put("): CUDA 12 or newer is needed");
    return false;
  }
  if (!NamesAgree(cupti)) return false;
  InitCallbacks(g_api, session, cupti.get_device_id);
  CUpti_SubscriberHandle subscriber = nullptr;
  result = cupti.subscribe(&subscriber, OnCallback, nullptr);
  if (result != CUPTI_SUCCESS) {
    TextWriter text = Failure(cupti, "cuptiSubscribe", result);
    if (result == CUPTI_ERROR_MULTIPLE_SUBSCRIBERS_NOT_SUPPORTED) {
      text.Put(": another tool (nsys, ncu, cuda-gdb, compute-sanitizer, a profiler) has it");
    }
    return false;
  }
  // One by one: a whole domain would call back at each launch.
  for (const DriverCallName& call : kDriverCalls) {
    result = cupti.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_DRIVER_API, call.id);
    if (result != CUPTI_SUCCESS) break;
  }
  for (const CUpti_CallbackId id : kResourceCalls) {
    if (result != CUPTI_SUCCESS) break;
    result = cupti.enable_callback(1, subscriber, CUPTI_CB_DOMAIN_RESOURCE, id);
  }
  if (result == CUPTI_SUCCESS) return true;
  // What was enabled would be half of the truth.
  Failure(cupti, "cuptiEnableCallback", result);
  cupti.unsubscribe(subscriber);
  return false;
}

// 0: there is nothing to be done.
uint32_t Session() {
  g_api = FindApi();
  // Not traced: the variable was inherited from a process that is.
  if (g_api == nullptr) return 0;
  const uint32_t session = g_api->begin(__builtin_frame_address(0));
  if (session != 0) g_api->end();
  return session;
}

void Start(const Driver& driver) {
  __cxa_atexit([](void*) { OnProcessExit(); }, nullptr, nullptr);
  pthread_atfork(nullptr, nullptr, OnForkInChild);
  StartSamples(driver.pci_bus_id);
}

// By what can be seen without CUPTI.
void StartPartial(const Driver& driver, uint32_t session, const char* reason, const char* where) {
  if (driver.current.get == nullptr || driver.current.get_device == nullptr) {
    return Unavailable(reason, where);
  }
  InitCallbacks(g_api, session, InitInterposed(driver.current));
  Start(driver);
  g_api->on_cuda_call(OnCudaCall);
  static char why[1024];
  TextWriter(why, sizeof why).Put("cuBLAS and NCCL not seen, only calls by name: ").Put(reason);
  g_api->capture_state(static_cast<uint32_t>(GpuCaptureState::kPartial), why, where);
}

void Initialize() {
  const uint32_t session = Session();
  const char* const wanted = getenv("OLLAMATRACE_CUPTI");
  if (session == 0 || (wanted != nullptr && TextEquals(wanted, "off"))) return;
  static char own_folder[kMaxPath];
  OwnFolder(own_folder);
  const Driver driver = FindDriver();
  FindCupti(wanted, own_folder, VersionOf(driver), &g_found);
  if (g_found.handle == nullptr) {
    return StartPartial(driver, session, "no libcupti was found (OLLAMATRACE_CUPTI can name one)",
                        g_found.tried);
  }
  Cupti cupti;
  if (!LookUp(&cupti) || !Subscribe(cupti, session)) {
    return StartPartial(driver, session, g_text, g_found.path);
  }
  Start(driver);
  g_api->capture_state(static_cast<uint32_t>(GpuCaptureState::kActive), "", g_found.path);
}

// Whoever comes first: the driver, or libollamatrace.so.
bool IsFirst() {
  static std::atomic<bool> called{false};
  return !called.exchange(true);
}

}  // namespace
}  // namespace ollamatrace::cupti

// The driver's documentation does not say what it makes of the result; NVIDIA's samples give 1.
extern "C" __attribute__((visibility("default"))) int InitializeInjection() {
  if (ollamatrace::cupti::IsFirst()) ollamatrace::cupti::Initialize();
  return 1;
}

extern "C" __attribute__((visibility("default"))) void OllamatraceStartWithoutCupti(
    const char* reason, const char* where) {
  using namespace ollamatrace::cupti;
  const uint32_t session = IsFirst() ? Session() : 0;
  if (session != 0) StartPartial(FindDriver(), session, reason, where);
}
