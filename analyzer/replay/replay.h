// Replays one process's trace: which blocks and mappings were live at a moment, by the stack that
// allocated them.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_REPLAY_H_
#define OLLAMATRACE_ANALYZER_REPLAY_REPLAY_H_

#include <cstdint>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "analyzer/replay/layout_recorder.h"
#include "analyzer/replay/live_blocks.h"
#include "analyzer/replay/mapping_table.h"
#include "analyzer/replay/process_history.h"
#include "analyzer/replay/sample_estimator.h"
#include "formats/read_summary.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

// Times are CLOCK_MONOTONIC nanoseconds.
struct ReplayOptions {
  // The window: stacks count what was allocated in [since_ns, until_ns]; the state is that of
  // until_ns.
  uint64_t since_ns = 0;
  uint64_t until_ns = kNever;
  // Tell the blocks of one stack apart by the thread that allocated them. Folded pairs belong to no
  // thread.
  bool by_thread = false;
  // Keep ProcessHistory::layout: 24 bytes for each live block.
  bool keep_layout = false;
  // When requests were answered, ascending.
  std::vector<uint64_t> request_times;
};

// One trace: give it to ReadTrace, then call Finish once. Trusts no record: any sequence of calls
// is fine. In the default mode a block's allocation is written long after it happened, so that
// times run backwards from one record to the next; for one address they do not. Thread-compatible.
// Memory is proportional to live blocks, mapped pieces and distinct stacks.
class Replay : public TraceVisitor {
 public:
  explicit Replay(ReplayOptions options);

  void OnHeader(const HeaderRecord& header) override;
  void OnModule(const ModuleRecord& module) override;
  void OnThread(const ThreadRecord& thread) override;
  void OnNode(const NodeRecord& node) override;
  void OnAlloc(const AllocRecord& alloc) override;
  void OnFree(const FreeRecord& free) override;
  void OnHeapEvents(const ColumnReader& columns) override;
  void OnColumnsEnd(const ColumnReader& columns) override;
  void OnMap(const MapRecord& map) override;
  void OnUnmap(const UnmapRecord& unmap) override;
  void OnCounters(const CountersRecord& counters) override;
  void OnDropped(const DroppedRecord& dropped) override;
  void OnWeights(const WeightsRecord& weights) override;
  void OnSample(const SampleRecord& sample) override;
  void OnMemoryMap(const MemoryMapRecord& map) override;
  void OnLoss(const LossRecord& loss) override;
  void OnMessage(const MessageRecord& message) override;
  void OnGpuPlace(const GpuPlaceRecord& place) override;
  void OnGpuCapture(const GpuCaptureRecord& capture) override;
  void OnGpuFailure(const GpuFailureRecord& failure) override;
  void OnGpuImplicit(const GpuImplicitRecord& implicit) override;
  void OnGpuLedger(const GpuLedgerRecord& ledger) override;
  void OnGpuSample(const GpuSampleRecord& sample) override;
  void OnEnd(const EndRecord& end) override;

  ProcessHistory Finish(const ReadSummary& summary);

 private:
  using Row = uint32_t;  // of history_.stacks; kNoRow for a block from before the window
  static constexpr Row kNoRow = ~Row{0};

  // A block of the chunk of columns that is being read: those that it frees again never get into
  // the map.
  struct ChunkBlock {
    uint64_t time_ns = 0;
    Row row = kNoRow;
    bool live = false;  // false, too, for one that is not in the window
  };

  // What an event of a chunk of columns does: a block comes, or it goes.
  struct Change {
    uint64_t time_ns;
    uint64_t born_ns;
    uint64_t size;
    Row row;
    bool is_birth;
  };

  struct FoldedPairs {
    CountersRecord before;  // the last state before the window: the window's part is the difference
    CountersRecord now;
  };

  bool InWindow(uint64_t time_ns) const { return time_ns <= options_.until_ns; }
  void Saw(uint64_t time_ns);
  Row RowOf(const StackKey& key);
  StackStats& StatsOf(Row row) { return history_.stacks.Row(row).second; }
  LiveBlocks& Blocks(Domain domain) { return domain == Domain::kHeap ? heap_ : others_[domain]; }

  DomainTotals& TotalOf(Domain domain, MappingClass mapping = MappingClass::kAnonymous);
  DomainTotals& HeapTotal();
  void Born(Row row, uint64_t time_ns, uint64_t size);
  void Died(Row row, uint64_t born_ns, uint64_t time_ns, uint64_t size, bool last);
  void Remove(Domain domain, const LiveBlock& block, uint64_t time_ns);
  void ChunkAlloc(const ColumnReader& columns, const ColumnEvent& event);
  void ChunkFree(const ColumnEvent& event);
  void FreeOfEarlierChunk(const ColumnEvent& event);
  void Add(const Change& change);
  Row ChunkRowOf(const ColumnReader& columns, const ColumnEvent& event);
  void Unmapped(const Mapping& mapping, uint64_t bytes, bool last, uint64_t time_ns);

  uint32_t DeviceOf(StackId stack) const;
  void TakeBackFailedFrees();
  void EstimateRounding();
  void ForgetPinnedMappings();
  void FoldCounters();
  // What survives, block by block.
  void LookAt(Row row, uint64_t time_ns, uint64_t size);
  void LookAtBlocks();
  void LookAtMappings();
  void SettleEnd(const ReadSummary& summary);
  void SettleLayout();
  LayoutRecorder::RowOf MappingRows();
  void SetAxes();
  void SettleAxes();

  const ReplayOptions options_;
  std::optional<SampleEstimator> estimator_;  // mode sample

  ProcessHistory history_;
  Row last_row_ = kNoRow;
  LiveBlocks heap_;
  std::map<Domain, LiveBlocks> others_;
  // By number, of the chunk of columns that is being read.
  std::vector<ChunkBlock> chunk_blocks_;
  std::vector<Row> chunk_rows_;  // by entry; kNoRow: not known yet
  uint32_t chunk_replaced_ = 0;  // the block at whose address the next alloc is
  std::vector<Change> changes_;  // of a batch
  bool chunk_begun_ = false;
  bool chunk_by_record_ = false;
  MappingTable mappings_;
  LayoutRecorder layout_;
  uint32_t page_bytes_ = 4096;
  bool glibc_malloc_ = false;
  absl::flat_hash_map<std::pair<uint32_t, Domain>, FoldedPairs> folded_;

  std::map<std::pair<uint32_t, Domain>, uint64_t> failed_frees_;  // by stack and domain
  uint64_t gpu_sample_stride_ = 1;                                // as stride_
  uint64_t gpu_samples_ = 0;

  DomainTotals* heap_total_ = nullptr;  // in history_, when there is one
  uint64_t first_seen_ns_ = kNever;
  uint64_t last_seen_ns_ = 0;
  // The smallest sum of written live heap bytes since the last sample.
  uint64_t heap_floor_ = 0;
  TimelinePoint last_sample_;
  uint64_t stride_ = 1;  // every stride-th sample is kept
  bool ended_ = false;
  EndRecord end_;
};

// Several traces of one session: a process whose trace is followed by another one of the same
// process went on in another program. Sets their end to kExec.
void MarkExecs(std::vector<ProcessHistory>& histories);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_REPLAY_H_
