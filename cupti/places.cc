#include "cupti/places.h"

#include <cstring>

#include "formats/encode.h"

namespace ollamatrace::cupti {

const Places::Context* Places::FindContext(const void* handle) const {
  for (uint32_t i = contexts_used_; i > 0; --i) {
    if (contexts_[i - 1].handle == handle) return &contexts_[i - 1];
  }
  return nullptr;
}

const Places::Context* Places::AddContext(const void* handle, uint32_t device) {
  if (contexts_used_ == kContexts) return nullptr;
  Context* const context = &contexts_[contexts_used_];
  *context = {handle, ++contexts_used_, device};
  return context;
}

void Places::Forget(const void* handle) {
  for (uint32_t i = 0; i < contexts_used_; ++i) {
    if (contexts_[i].handle == handle) contexts_[i].handle = nullptr;
  }
}

// The handles CU_STREAM_LEGACY and CU_STREAM_PER_THREAD are 1 and 2.
uint32_t Places::StreamNumber(const void* stream) {
  if (reinterpret_cast<uintptr_t>(stream) <= 2) return 0;
  for (uint32_t i = 0; i < streams_used_; ++i) {
    if (streams_[i] == stream) return i + 1;
  }
  if (streams_used_ == kStreams) return 0;
  streams_[streams_used_++] = stream;
  return streams_used_;
}

uint32_t Places::Find(const char* function, uint32_t device, uint32_t context, const void* stream) {
  if (places_ == nullptr) places_ = static_cast<Place*>(api_->memory(kPlaces * sizeof(Place)));
  if (places_ == nullptr) return 0;
  const uint32_t stream_number = used_ < kWithStreams ? StreamNumber(stream) : 0;
  uint64_t hash = reinterpret_cast<uintptr_t>(function);
  hash = (hash * 31 + device) * 31 + context;
  hash = (hash * 31 + stream_number) * UINT64_C(0x9E3779B97F4A7C15);
  for (size_t slot = hash >> 32 & (kPlaces - 1);; slot = (slot + 1) & (kPlaces - 1)) {
    Place* const place = &places_[slot];
    if (place->id == 0) {
      if (used_ == kMost) return 0;
      *place = {function, device, context, stream_number, ++used_};
      GpuPlaceRecord record;
      record.id = place->id;
      record.device = device;
      record.context = context;
      record.stream = stream_number;
      record.function = {function, strlen(function)};
      uint8_t encoded[kGpuPlaceBytes];
      api_->define(encoded, EncodeGpuPlace(record, encoded));
      return place->id;
    }
    if (place->function == function && place->device == device && place->context == context &&
        place->stream == stream_number) {
      return place->id;
    }
  }
}

}  // namespace ollamatrace::cupti
