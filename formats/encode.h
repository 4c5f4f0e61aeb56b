// Encodes records into a buffer of the caller's. Runs inside the traced process: no allocation, no
// exceptions, no locks, nothing of libstdc++'s runtime.
//
// Each function writes one record at `out` and returns the number of bytes written, at most the
// record's k...Bytes bound (the caller guarantees the room). Not thread-safe per DeltaState;
// otherwise thread-safe. Layouts: FORMAT.md.
#ifndef OLLAMATRACE_FORMATS_ENCODE_H_
#define OLLAMATRACE_FORMATS_ENCODE_H_

#include <cstddef>
#include <cstdint>

#include "formats/gpu_records.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// What a chunk's index says about its events (Alloc, Free, Map, Unmap).
struct ChunkStats {
  uint64_t first_ns = 0;  // smallest and greatest time of an event; both 0 when the chunk has none
  uint64_t last_ns = 0;
  uint32_t events = 0;
};

// What the next event record is a delta against. A chunk starts with a fresh one (`state =
// DeltaState{}`). The first event that is encoded with a fresh state is preceded by a Reset record,
// so that the chunks' records can also be read as one stream. All zeros is a fresh state.
struct DeltaState {
  uint64_t time_ns = 0;
  uint64_t address = 0;
  uint32_t thread = 0;
  uint32_t stack = 0;
  uint8_t started = 0;  // the Reset record was written
  ChunkStats stats;
};

// Longer texts are cut at these limits, silently.
inline constexpr size_t kMaxPathBytes = 4096;
inline constexpr size_t kMaxArgvBytes = kMaxStringBytes;
inline constexpr size_t kMaxBuildIdBytes = 64;
inline constexpr size_t kMaxNameBytes = 64;
inline constexpr size_t kMaxMessageBytes = 4096;
inline constexpr size_t kMaxMemoryMapBytes = kMaxStringBytes;

// Upper bounds, in bytes, of what the functions below write.
inline constexpr size_t kEventBytes =
    64;  // Alloc, Free, Map, Unmap: with the Reset and TimeThread records before it
inline constexpr size_t kNodeBytes = 32;
inline constexpr size_t kCountersBytes = 96;
inline constexpr size_t kWeightsBytes = 64;
inline constexpr size_t kSampleBytes = 240;
inline constexpr size_t kSmallRecordBytes = 64;  // ModuleUnload, ThreadEnd, Loss, End
inline constexpr size_t kDroppedBytes = 128;
inline constexpr size_t kThreadBytes = 64 + kMaxNameBytes;
inline constexpr size_t kModuleBytes = 96 + kMaxBuildIdBytes + kMaxPathBytes;
inline constexpr size_t kMessageBytes = 64 + kMaxMessageBytes;
inline constexpr size_t kHeaderBytes = 192 + kMaxPathBytes + kMaxArgvBytes + 2 * kMaxNameBytes;
inline constexpr size_t kMaxFunctionBytes = 128;
inline constexpr size_t kGpuPlaceBytes = 64 + kMaxFunctionBytes;
inline constexpr size_t kGpuCaptureBytes = 64 + 2 * kMaxMessageBytes;
inline constexpr size_t kGpuRecordBytes = 80;  // GpuFailure, GpuImplicit, GpuLedger, GpuSample
inline constexpr size_t kMemoryMapBytes = 64 + kMaxMemoryMapBytes;
inline constexpr size_t kMaxRecordBytes = kHeaderBytes;  // of any record

// Events: deltas against `state`, which moves along.
size_t EncodeAlloc(DeltaState* state, const AllocRecord& record, uint8_t* out);
size_t EncodeFree(DeltaState* state, const FreeRecord& record, uint8_t* out);
size_t EncodeMap(DeltaState* state, const MapRecord& record, uint8_t* out);
size_t EncodeUnmap(DeltaState* state, const UnmapRecord& record, uint8_t* out);

// The others stand on their own: they may be encoded anywhere, kept, and copied into a chunk
// between two records.
size_t EncodeHeader(const HeaderRecord& record, uint8_t* out);
size_t EncodeModule(const ModuleRecord& record, uint8_t* out);
size_t EncodeModuleUnload(const ModuleUnloadRecord& record, uint8_t* out);
size_t EncodeThread(const ThreadRecord& record, uint8_t* out);
size_t EncodeThreadEnd(const ThreadEndRecord& record, uint8_t* out);
size_t EncodeNode(const NodeRecord& record, uint8_t* out);
size_t EncodeCounters(const CountersRecord& record, uint8_t* out);
size_t EncodeWeights(const WeightsRecord& record, uint8_t* out);
size_t EncodeSample(const SampleRecord& record, uint8_t* out);
size_t EncodeMemoryMap(const MemoryMapRecord& record, uint8_t* out);
size_t EncodeLoss(const LossRecord& record, uint8_t* out);
size_t EncodeMessage(const MessageRecord& record, uint8_t* out);
size_t EncodeGpuPlace(const GpuPlaceRecord& record, uint8_t* out);
size_t EncodeGpuCapture(const GpuCaptureRecord& record, uint8_t* out);
size_t EncodeGpuFailure(const GpuFailureRecord& record, uint8_t* out);
size_t EncodeGpuImplicit(const GpuImplicitRecord& record, uint8_t* out);
size_t EncodeGpuLedger(const GpuLedgerRecord& record, uint8_t* out);
size_t EncodeGpuSample(const GpuSampleRecord& record, uint8_t* out);
size_t EncodeEnd(const EndRecord& record, uint8_t* out);
size_t EncodeDropped(const DroppedRecord& record, uint8_t* out);

// The encoded Header record `header` as that of a later segment. 0: it is no Header record. `out`
// has room for kHeaderBytes.
size_t EncodeSegmentHeader(const uint8_t* header, size_t size, uint32_t segment,
                           uint64_t segment_ns, uint8_t* out);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_ENCODE_H_
