// Writes a trace, record by record, in chunks of the usual size.
#ifndef OLLAMATRACE_ANALYZER_CONVERT_TRACE_OUTPUT_H_
#define OLLAMATRACE_ANALYZER_CONVERT_TRACE_OUTPUT_H_

#include <cstddef>
#include <cstdint>
#include <functional>
#include <vector>

#include "absl/strings/string_view.h"
#include "formats/chunk_writer.h"
#include "formats/encode.h"

namespace ollamatrace {

// Not thread-safe. `sink` gets whole chunks, in their order.
class TraceOutput {
 public:
  explicit TraceOutput(std::function<void(absl::string_view)> sink);

  void Add(const AllocRecord& record) { AddEvent(EncodeAlloc, record); }
  void Add(const FreeRecord& record) { AddEvent(EncodeFree, record); }
  void Add(const MapRecord& record) { AddEvent(EncodeMap, record); }
  void Add(const UnmapRecord& record) { AddEvent(EncodeUnmap, record); }

  void Add(const HeaderRecord& record) { AddOther(EncodeHeader, record); }
  void Add(const ModuleRecord& record) { AddOther(EncodeModule, record); }
  void Add(const ModuleUnloadRecord& record) { AddOther(EncodeModuleUnload, record); }
  void Add(const ThreadRecord& record) { AddOther(EncodeThread, record); }
  void Add(const ThreadEndRecord& record) { AddOther(EncodeThreadEnd, record); }
  void Add(const NodeRecord& record) { AddOther(EncodeNode, record); }
  void Add(const CountersRecord& record) { AddOther(EncodeCounters, record); }
  void Add(const DroppedRecord& record) { AddOther(EncodeDropped, record); }
  void Add(const SampleRecord& record) { AddOther(EncodeSample, record); }
  void Add(const MemoryMapRecord& record) { AddOther(EncodeMemoryMap, record); }
  void Add(const LossRecord& record) { AddOther(EncodeLoss, record); }
  void Add(const MessageRecord& record) { AddOther(EncodeMessage, record); }
  void Add(const GpuPlaceRecord& record) { AddOther(EncodeGpuPlace, record); }
  void Add(const GpuCaptureRecord& record) { AddOther(EncodeGpuCapture, record); }
  void Add(const GpuFailureRecord& record) { AddOther(EncodeGpuFailure, record); }
  void Add(const GpuImplicitRecord& record) { AddOther(EncodeGpuImplicit, record); }
  void Add(const GpuLedgerRecord& record) { AddOther(EncodeGpuLedger, record); }
  void Add(const GpuSampleRecord& record) { AddOther(EncodeGpuSample, record); }
  void Add(const EndRecord& record) { AddOther(EncodeEnd, record); }

  // What is left. Call once, last.
  void Finish() { CloseChunk(); }

 private:
  template <typename Record>
  void AddEvent(size_t (*encode)(DeltaState*, const Record&, uint8_t*), const Record& record) {
    used_ += encode(&state_, record, records_.data() + used_);
    if (used_ >= kTargetChunkBytes) CloseChunk();
  }
  template <typename Record>
  void AddOther(size_t (*encode)(const Record&, uint8_t*), const Record& record) {
    used_ += encode(record, records_.data() + used_);
    if (used_ >= kTargetChunkBytes) CloseChunk();
  }
  void CloseChunk();

  const std::function<void(absl::string_view)> sink_;
  std::vector<uint64_t> workspace_;
  ChunkWriter writer_;
  std::vector<uint8_t> records_;  // with room for one more record
  size_t used_ = 0;
  std::vector<uint8_t> chunk_;
  uint32_t number_ = 0;
  DeltaState state_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CONVERT_TRACE_OUTPUT_H_
