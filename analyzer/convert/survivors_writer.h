// Turns a trace with every event into one of mode survivors that says the same of what is live.
#ifndef OLLAMATRACE_ANALYZER_CONVERT_SURVIVORS_WRITER_H_
#define OLLAMATRACE_ANALYZER_CONVERT_SURVIVORS_WRITER_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/strings/string_view.h"
#include "analyzer/convert/trace_output.h"
#include "formats/read_summary.h"
#include "formats/trace_reader.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

// Give it to ReadTrace, then call Finish once. Blocks of the heap that were freed become their
// stack's counters; those that are live are written last. All else is written as it comes: mappings
// and GPU memory keep their events. The report of what is written has the same live bytes, groups,
// counts and peaks; what happened when within the life of a stack is left out, as mode survivors
// leaves it out. Memory is proportional to live blocks and distinct stacks. Not thread-safe.
class SurvivorsWriter : public TraceVisitor {
 public:
  explicit SurvivorsWriter(std::function<void(absl::string_view)> sink)
      : output_(std::move(sink)) {}

  void OnHeader(const HeaderRecord& header) override;
  void OnModule(const ModuleRecord& module) override { output_.Add(module); }
  void OnModuleUnload(const ModuleUnloadRecord& unload) override { output_.Add(unload); }
  void OnThread(const ThreadRecord& thread) override { output_.Add(thread); }
  void OnThreadEnd(const ThreadEndRecord& end) override { output_.Add(end); }
  void OnNode(const NodeRecord& node) override { output_.Add(node); }
  void OnAlloc(const AllocRecord& alloc) override;
  void OnFree(const FreeRecord& free) override;
  void OnMap(const MapRecord& map) override;
  void OnUnmap(const UnmapRecord& unmap) override;
  void OnCounters(const CountersRecord& counters) override;
  void OnDropped(const DroppedRecord& dropped) override;
  void OnSample(const SampleRecord& sample) override;
  void OnMemoryMap(const MemoryMapRecord& map) override { output_.Add(map); }
  void OnLoss(const LossRecord& loss) override { output_.Add(loss); }
  void OnMessage(const MessageRecord& message) override { output_.Add(message); }
  void OnGpuPlace(const GpuPlaceRecord& place) override { output_.Add(place); }
  void OnGpuCapture(const GpuCaptureRecord& capture) override { output_.Add(capture); }
  void OnGpuFailure(const GpuFailureRecord& failure) override;
  void OnGpuImplicit(const GpuImplicitRecord& implicit) override;
  void OnGpuLedger(const GpuLedgerRecord& ledger) override;
  void OnGpuSample(const GpuSampleRecord& sample) override;
  void OnEnd(const EndRecord& end) override;

  // False: the trace is of mode sample, whose blocks cannot be folded here. Nothing is written.
  bool accepts() const { return accepts_; }

  void Finish(const ReadSummary& summary);

 private:
  struct Block {
    AllocRecord alloc;
    // It lies over a block whose free was lost: both are events in the output, so that a reader
    // sees that.
    bool written = false;
  };
  // Of one stack's heap blocks.
  struct Folded {
    CountersRecord counters;  // of the pairs of this writer
    CountersRecord given;     // as the trace says
    uint64_t live_bytes = 0;
  };

  void Saw(uint64_t time_ns) { last_seen_ns_ = std::max(last_seen_ns_, time_ns); }
  Folded& FoldedOf(StackId stack);
  void Fold(const Block& block, uint64_t time_ns);
  void WriteLastSample();
  void WriteSurvivors();
  void WriteCounters();

  TraceOutput output_;
  bool accepts_ = true;
  bool by_fork_ = false;
  absl::flat_hash_map<uint64_t, Block> heap_;  // by address
  std::map<uint32_t, Folded> folded_;          // by stack
  uint64_t live_bytes_ = 0;                    // of the blocks that are not in the output
  uint64_t live_blocks_ = 0;
  uint64_t peak_bytes_ = 0;   // of live_bytes_, since the last sample
  uint64_t floor_bytes_ = 0;  // smallest value of live_bytes_ since then
  uint64_t told_peak_ = 0;    // the greatest that a sample in the output says
  uint64_t told_ns_ = 0;  // the latest time in the output of what a reader takes for a sign of life
  uint64_t last_seen_ns_ = 0;
  SampleRecord last_sample_;
  bool ended_ = false;
  EndRecord end_;
};

// Reads the trace at `from` (with its journal) and writes `to`, a file that is made anew. Errors:
// those of ReadTrace; Unimplemented: mode sample; Unavailable: `to` cannot be written. The message
// is one line.
absl::Status WriteSurvivorsTrace(const std::string& from, const std::string& to,
                                 const ReadOptions& options = {});

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CONVERT_SURVIVORS_WRITER_H_
