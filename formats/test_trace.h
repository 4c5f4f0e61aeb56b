// For tests: traces made with the real encoders and the real chunk writer.
#ifndef OLLAMATRACE_FORMATS_TEST_TRACE_H_
#define OLLAMATRACE_FORMATS_TEST_TRACE_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "formats/encode.h"
#include "formats/trace_format.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

inline Text TextOf(absl::string_view text) { return {text.data(), text.size()}; }

// Builds a trace chunk by chunk.
class TraceBuilder {
 public:
  // `witness`, when there is one, is told each record as it is added.
  explicit TraceBuilder(TraceVisitor* witness = nullptr) : witness_(witness) {}

  void Add(const AllocRecord& record) { AddEvent(EncodeAlloc, &TraceVisitor::OnAlloc, record); }
  void Add(const FreeRecord& record) { AddEvent(EncodeFree, &TraceVisitor::OnFree, record); }
  void Add(const MapRecord& record) { AddEvent(EncodeMap, &TraceVisitor::OnMap, record); }
  void Add(const UnmapRecord& record) { AddEvent(EncodeUnmap, &TraceVisitor::OnUnmap, record); }
  void Add(const HeaderRecord& record) { AddOther(EncodeHeader, &TraceVisitor::OnHeader, record); }
  void Add(const ModuleRecord& record) { AddOther(EncodeModule, &TraceVisitor::OnModule, record); }
  void Add(const ModuleUnloadRecord& record) {
    AddOther(EncodeModuleUnload, &TraceVisitor::OnModuleUnload, record);
  }
  void Add(const ThreadRecord& record) { AddOther(EncodeThread, &TraceVisitor::OnThread, record); }
  void Add(const ThreadEndRecord& record) {
    AddOther(EncodeThreadEnd, &TraceVisitor::OnThreadEnd, record);
  }
  void Add(const NodeRecord& record) { AddOther(EncodeNode, &TraceVisitor::OnNode, record); }
  void Add(const CountersRecord& record) {
    AddOther(EncodeCounters, &TraceVisitor::OnCounters, record);
  }
  void Add(const WeightsRecord& record) {
    AddOther(EncodeWeights, &TraceVisitor::OnWeights, record);
  }
  void Add(const SampleRecord& record) { AddOther(EncodeSample, &TraceVisitor::OnSample, record); }
  void Add(const MemoryMapRecord& record) {
    AddOther(EncodeMemoryMap, &TraceVisitor::OnMemoryMap, record);
  }
  void Add(const LossRecord& record) { AddOther(EncodeLoss, &TraceVisitor::OnLoss, record); }
  void Add(const MessageRecord& record) {
    AddOther(EncodeMessage, &TraceVisitor::OnMessage, record);
  }
  void Add(const GpuPlaceRecord& record) {
    AddOther(EncodeGpuPlace, &TraceVisitor::OnGpuPlace, record);
  }
  void Add(const GpuCaptureRecord& record) {
    AddOther(EncodeGpuCapture, &TraceVisitor::OnGpuCapture, record);
  }
  void Add(const GpuFailureRecord& record) {
    AddOther(EncodeGpuFailure, &TraceVisitor::OnGpuFailure, record);
  }
  void Add(const GpuImplicitRecord& record) {
    AddOther(EncodeGpuImplicit, &TraceVisitor::OnGpuImplicit, record);
  }
  void Add(const GpuLedgerRecord& record) {
    AddOther(EncodeGpuLedger, &TraceVisitor::OnGpuLedger, record);
  }
  void Add(const GpuSampleRecord& record) {
    AddOther(EncodeGpuSample, &TraceVisitor::OnGpuSample, record);
  }
  void Add(const EndRecord& record) { AddOther(EncodeEnd, &TraceVisitor::OnEnd, record); }
  void Add(const DroppedRecord& record) {
    AddOther(EncodeDropped, &TraceVisitor::OnDropped, record);
  }
  // Bytes that are no record of this version.
  void AddRaw(absl::string_view bytes) { records_.append(bytes.data(), bytes.size()); }

  // Closes the chunk that is being filled (nothing when it is empty) and starts the next one.
  void CloseChunk();

  // The same, as a chunk of columns; of records when these can't be columns.
  void CloseChunkOfColumns();

  // The records of the chunk that is being filled.
  const std::string& records() const { return records_; }
  // The closed chunks: a trace.
  const std::string& bytes() const { return bytes_; }
  // Where each closed chunk begins.
  const std::vector<size_t>& chunk_offsets() const { return chunk_offsets_; }

 private:
  template <typename Record>
  void AddEvent(size_t (*encode)(DeltaState*, const Record&, uint8_t*),
                void (TraceVisitor::*tell)(const Record&), const Record& record) {
    if (witness_ != nullptr) (witness_->*tell)(record);
    uint8_t out[kEventBytes];
    const size_t size = encode(&state_, record, out);
    AddRaw({reinterpret_cast<const char*>(out), size});
  }
  template <typename Record>
  void AddOther(size_t (*encode)(const Record&, uint8_t*),
                void (TraceVisitor::*tell)(const Record&), const Record& record) {
    if (witness_ != nullptr) (witness_->*tell)(record);
    std::vector<uint8_t> out(kMaxRecordBytes);
    const size_t size = encode(record, out.data());
    AddRaw({reinterpret_cast<const char*>(out.data()), size});
  }

  TraceVisitor* const witness_;
  DeltaState state_;
  std::string records_;
  std::string bytes_;
  std::vector<size_t> chunk_offsets_;
};

// One chunk of these records.
std::string ChunkOf(absl::string_view records, uint32_t number, const ChunkStats& stats = {});

// One chunk of their columns; "" when they can't be columns.
std::string ColumnChunkOf(absl::string_view records, uint32_t number);

// The columns of these records; "" when they can't be columns.
std::string ColumnsOf(absl::string_view records);

// Every kind of record, with ordinary and with extreme values, over several chunks; the same bytes
// at each call.
void AddEveryRecord(TraceBuilder& builder);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_TEST_TRACE_H_
