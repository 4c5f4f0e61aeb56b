#pragma once
// Placeholder until the sampler is here.
#include <malloc.h>

#include "formats/trace_format.h"
namespace ollamatrace {
struct SamplerContext {
  struct mallinfo2 (*mallinfo2)() = nullptr;
};
inline void TakeSample(SamplerContext*, SampleRecord* record) { *record = SampleRecord{}; }
}  // namespace ollamatrace
