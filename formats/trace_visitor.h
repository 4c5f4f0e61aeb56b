// What a reader of traces calls: one function for each kind of record.
#ifndef OLLAMATRACE_FORMATS_TRACE_VISITOR_H_
#define OLLAMATRACE_FORMATS_TRACE_VISITOR_H_

#include "formats/column_reader.h"
#include "formats/gpu_records.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// Receives the records of a trace in their order. For one address, the order of the calls is the
// true order of the events; across addresses it is not: a block that the library kept back for a
// while comes late, with its early time. Ids are defined before they are used, except where a
// damaged chunk or a cut journal took the definition along: treat an unknown id as 0. A definition
// may come twice, with the same content. Enums may hold values that this version does not name.
// Text in records is valid during the call only. The default implementations ignore the record.
class TraceVisitor {
 public:
  virtual ~TraceVisitor() = default;
  virtual void OnHeader(const HeaderRecord&) {}
  virtual void OnModule(const ModuleRecord&) {}
  virtual void OnModuleUnload(const ModuleUnloadRecord&) {}
  virtual void OnThread(const ThreadRecord&) {}
  virtual void OnThreadEnd(const ThreadEndRecord&) {}
  virtual void OnNode(const NodeRecord&) {}
  virtual void OnAlloc(const AllocRecord&) {}
  virtual void OnFree(const FreeRecord&) {}
  // Events of the heap in their order, from a chunk of columns. The default calls OnAlloc and
  // OnFree. `columns` knows the entries and blocks of the chunk.
  virtual void OnHeapEvents(const ColumnReader& columns);
  // The chunk of columns is complete, or the rest of it cannot be read: its blocks, numbers 1 to
  // columns.blocks(), are not referred to any more.
  virtual void OnColumnsEnd(const ColumnReader& columns) { static_cast<void>(columns); }
  virtual void OnMap(const MapRecord&) {}
  virtual void OnUnmap(const UnmapRecord&) {}
  virtual void OnCounters(const CountersRecord&) {}
  virtual void OnWeights(const WeightsRecord&) {}
  virtual void OnSample(const SampleRecord&) {}
  virtual void OnMemoryMap(const MemoryMapRecord&) {}
  virtual void OnLoss(const LossRecord&) {}
  virtual void OnMessage(const MessageRecord&) {}
  virtual void OnGpuPlace(const GpuPlaceRecord&) {}
  virtual void OnGpuCapture(const GpuCaptureRecord&) {}
  virtual void OnGpuFailure(const GpuFailureRecord&) {}
  virtual void OnGpuImplicit(const GpuImplicitRecord&) {}
  virtual void OnGpuLedger(const GpuLedgerRecord&) {}
  virtual void OnGpuSample(const GpuSampleRecord&) {}
  virtual void OnEnd(const EndRecord&) {}
  virtual void OnDropped(const DroppedRecord&) {}
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_TRACE_VISITOR_H_
