#ifndef OLLAMATRACE_CUPTI_PLACES_H_
#define OLLAMATRACE_CUPTI_PLACES_H_

// Numbers for what a call's place is made of: the driver's function, context, stream. The trace
// gets each place once (GpuPlaceRecord). Not thread-safe.

#include <cstddef>
#include <cstdint>

#include "formats/gpu_records.h"
#include "preload/capture_api.h"

namespace ollamatrace::cupti {

class Places {
 public:
  void Init(const OllamatraceCaptureApi* api) { api_ = api; }

  struct Context {
    const void* handle;
    uint32_t number;  // from 1
    uint32_t device;
  };
  // nullptr: not known yet.
  const Context* FindContext(const void* handle) const;
  // A new context, also at the handle of one that is gone. When there are too many, those that come
  // are not told apart any more.
  const Context* AddContext(const void* handle, uint32_t device);

  // The context is gone: at its handle there may be another one.
  void Forget(const void* handle);

  // The place; 0 when there are too many. `function` lives for ever. Streams are told apart while
  // there is room.
  uint32_t Find(const char* function, uint32_t device, uint32_t context, const void* stream);

 private:
  struct Place {
    const char* function;
    uint32_t device, context;
    uint32_t stream;
    uint32_t id;
  };
  static constexpr size_t kContexts = 256;
  static constexpr size_t kStreams = 1024;
  static constexpr size_t kPlaces = 16384;        // slots
  static constexpr uint32_t kWithStreams = 4096;  // places that may name a stream
  static constexpr uint32_t kMost = 12000;

  uint32_t StreamNumber(const void* stream);

  const OllamatraceCaptureApi* api_ = nullptr;
  Context contexts_[kContexts] = {};
  uint32_t contexts_used_ = 0;
  const void* streams_[kStreams] = {};
  uint32_t streams_used_ = 0;
  Place* places_ = nullptr;
  uint32_t used_ = 0;
};

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_PLACES_H_
