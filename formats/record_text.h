// Records as lines of text: for looking at a trace, and for comparing readers.
#ifndef OLLAMATRACE_FORMATS_RECORD_TEXT_H_
#define OLLAMATRACE_FORMATS_RECORD_TEXT_H_

#include <functional>
#include <string>
#include <utility>

#include "absl/strings/string_view.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

// Each record becomes one line without newline, `kind name=value ...`: numbers decimal, addresses
// hexadecimal, text quoted with C escapes, unknown gauges "?".
class RecordText : public TraceVisitor {
 public:
  explicit RecordText(std::function<void(absl::string_view)> line) : line_(std::move(line)) {}

  void OnHeader(const HeaderRecord& record) override;
  void OnModule(const ModuleRecord& record) override;
  void OnModuleUnload(const ModuleUnloadRecord& record) override;
  void OnThread(const ThreadRecord& record) override;
  void OnThreadEnd(const ThreadEndRecord& record) override;
  void OnNode(const NodeRecord& record) override;
  void OnAlloc(const AllocRecord& record) override;
  void OnFree(const FreeRecord& record) override;
  void OnMap(const MapRecord& record) override;
  void OnUnmap(const UnmapRecord& record) override;
  void OnCounters(const CountersRecord& record) override;
  void OnWeights(const WeightsRecord& record) override;
  void OnSample(const SampleRecord& record) override;
  void OnMemoryMap(const MemoryMapRecord& record) override;
  void OnLoss(const LossRecord& record) override;
  void OnMessage(const MessageRecord& record) override;
  void OnGpuPlace(const GpuPlaceRecord& record) override;
  void OnGpuCapture(const GpuCaptureRecord& record) override;
  void OnGpuFailure(const GpuFailureRecord& record) override;
  void OnGpuImplicit(const GpuImplicitRecord& record) override;
  void OnGpuLedger(const GpuLedgerRecord& record) override;
  void OnGpuSample(const GpuSampleRecord& record) override;
  void OnEnd(const EndRecord& record) override;
  void OnDropped(const DroppedRecord& record) override;

 private:
  std::function<void(absl::string_view)> line_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_RECORD_TEXT_H_
