// Records of the GPU: what the blocks of the GPU domains (Alloc, Free, Counters) do not say
// themselves. The prose is in FORMAT.md. No dependencies beyond <cstdint>.
#ifndef OLLAMATRACE_FORMATS_GPU_RECORDS_H_
#define OLLAMATRACE_FORMATS_GPU_RECORDS_H_

#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace {

// Nodes in no module below this address are no code: the address is the number of a place. No
// program has code there (vm.mmap_min_addr is 65536).
inline constexpr uint32_t kMaxGpuPlaces = 1u << 16;

inline constexpr uint32_t kNoDevice = ~uint32_t{0};

// What was called, and where: the innermost frame of the stacks of GPU domains.
struct GpuPlaceRecord {
  uint32_t id = 0;              // 1 to kMaxGpuPlaces - 1
  uint32_t device = kNoDevice;  // ordinal
  uint32_t context = 0;         // a number that the library gave it; 0: none
  uint64_t stream = 0;  // number of the stream, from 1 as they come; 0: the default, or none
  Text function;        // the driver's, "cuMemAlloc_v2"
};

enum class GpuCaptureState : uint8_t {
  kUnavailable = 0,
  kActive = 1,    // every driver call that allocates is seen
  kPartial = 2,   // only calls by name of callers that link dynamically
  kPrepared = 3,  // the driver is asked to load the capture, once there is one
};

// What became of GPU capture; the last record holds.
struct GpuCaptureRecord {
  uint64_t time_ns = 0;
  GpuCaptureState state = GpuCaptureState::kUnavailable;
  Text reason;  // a sentence
  Text where;   // files: what was loaded, or where it was looked for; may be empty
};

enum class GpuFailureKind : uint8_t {
  kAllocation = 0,  // nothing was allocated
  // The block lives on. Its Free is in the trace, and so is another Alloc: these two are no calls.
  kFree = 1,
};

struct GpuFailureRecord {
  uint64_t time_ns = 0;
  GpuFailureKind kind = GpuFailureKind::kAllocation;
  Domain domain = Domain::kDevice;
  uint32_t status = 0;  // CUresult
  uint64_t size = 0;    // bytes asked for, or of the block
  StackId stack{};
};

// Blocks that ended with their context, not by a call. Their Frees are in the trace.
struct GpuImplicitRecord {
  uint64_t time_ns = 0;
  uint32_t context = 0;
  Domain domain = Domain::kDevice;
  StackId stack{};
  uint64_t blocks = 0;
  uint64_t bytes = 0;
};

// One ledger of one device at one moment. Exact, also where pairs are folded.
struct GpuLedgerRecord {
  uint64_t time_ns = 0;
  uint32_t device = kNoDevice;
  Domain domain = Domain::kDevice;
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t peak_bytes = 0;
};

// A device at one moment, as NVML tells it; kUnknownGauge where a figure is not to be had.
struct GpuSampleRecord {
  uint64_t time_ns = 0;
  uint32_t device = kNoDevice;             // ordinal, as in GpuPlaceRecord
  uint64_t process_bytes = kUnknownGauge;  // used on the device by this process
  uint64_t used_bytes = kUnknownGauge;     // by all
  uint64_t total_bytes = kUnknownGauge;
  // What takes memory that no allocation tells of, so far, by this process on the device.
  uint32_t contexts = 0;      // created
  uint64_t modules = 0;       // of device code, loaded
  uint64_t module_bytes = 0;  // of their images
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_GPU_RECORDS_H_
