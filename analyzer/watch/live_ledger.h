// What is live in one process, by stack, kept up to date record by record and in bounded memory.
//
// A replay keeps a process's whole history for a report that is made once; a watch needs the
// present only, again and again, for days. So a ledger holds one packed word for each live block
// and one row for each stack, and what a journal says, which is newer than the trace's last chunk
// and will be said again by a later chunk, can be taken back.
#ifndef OLLAMATRACE_ANALYZER_WATCH_LIVE_LEDGER_H_
#define OLLAMATRACE_ANALYZER_WATCH_LIVE_LEDGER_H_

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "analyzer/replay/mapping_table.h"
#include "analyzer/replay/process_history.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

// Thread-compatible.
class LiveLedger : public TraceVisitor {
 public:
  // More live blocks than this are not followed: 18 MB. The figures by stack are given up then.
  static constexpr size_t kMostBlocks = 900'000;
  static constexpr size_t kMostNodes = 400'000;  // stacks beyond have no names
  static constexpr size_t kMostRows = 200'000;   // and these share one row

  struct Row {
    StackKey key;
    uint64_t live_bytes = 0;
    uint64_t live_blocks = 0;
    uint64_t first_bytes = 0;  // when the row was first looked at, see SetFirst
  };

  void OnHeader(const HeaderRecord& header) override;
  void OnModule(const ModuleRecord& module) override;
  void OnNode(const NodeRecord& node) override;
  void OnAlloc(const AllocRecord& alloc) override;
  void OnFree(const FreeRecord& free) override;
  void OnMap(const MapRecord& map) override;
  void OnUnmap(const UnmapRecord& unmap) override;
  void OnSample(const SampleRecord& sample) override;
  void OnLoss(const LossRecord& loss) override;

  // What comes now is taken back by TakeBack. Samples, losses and definitions stay.
  void Mark();
  void TakeBack();

  // Nothing is live: what is comes anew. Rows, names, samples and losses stay. Not after Mark.
  void Restart();

  // The state of rows that are new since is compared with this from now on.
  void SetFirst();

  bool has_header() const { return has_header_; }
  uint32_t pid() const { return pid_; }
  const std::string& exe() const { return exe_; }
  // Blocks of the heap are followed: there are not too many.
  bool followed() const { return followed_; }
  const std::vector<Row>& rows() const { return rows_; }
  // Live bytes of the heap, of anonymous mappings (without the break, which the heap lies in), and
  // of GPU memory.
  uint64_t heap_bytes() const { return heap_bytes_; }
  uint64_t mapped_bytes() const { return mapped_bytes_; }
  uint64_t gpu_bytes() const { return gpu_bytes_; }
  uint64_t live_blocks() const { return live_blocks_; }
  const std::optional<SampleRecord>& sample() const { return sample_; }
  uint64_t lost_events() const { return lost_events_; }

  // For names: nodes and modules of the stacks asked for.
  ProcessHistory StacksForNaming(const std::vector<StackId>& stacks) const;

 private:
  // 40 bits of size, 24 of row.
  using Block = uint64_t;
  static Block Pack(uint64_t size, uint32_t row) {
    return (size < kMostSize ? size : kMostSize) << 24 | row;
  }
  static constexpr uint64_t kMostSize = (uint64_t{1} << 40) - 1;
  static uint64_t SizeOf(Block block) { return block >> 24; }
  static uint32_t RowOf(Block block) { return block & 0xffffff; }
  static uint64_t KeyOf(Domain domain, uint64_t address) {
    return address ^ static_cast<uint64_t>(domain) << 57;
  }

  uint32_t FindRow(const StackKey& key);
  void Change(uint32_t row, uint64_t bytes, uint64_t blocks, bool more);
  void ChangeBlock(Block block, bool more);
  uint64_t& TotalOf(const StackKey& key);
  void Remember(uint64_t key);
  void Unmapped(const Mapping& mapping, uint64_t bytes, bool last);
  void GiveUpBlocks();

  bool has_header_ = false;
  uint32_t pid_ = 0;
  uint64_t sample_bytes_ = 0;
  std::string exe_;
  bool followed_ = true;
  absl::flat_hash_map<uint64_t, Block> blocks_;
  absl::flat_hash_map<StackKey, uint32_t> row_of_;
  std::vector<Row> rows_;
  MappingTable mappings_;
  absl::flat_hash_map<uint32_t, Node> nodes_;
  absl::flat_hash_map<uint32_t, Module> modules_;
  uint64_t heap_bytes_ = 0;
  uint64_t mapped_bytes_ = 0;
  uint64_t gpu_bytes_ = 0;
  uint64_t ignored_bytes_ = 0;  // of what counts nowhere
  uint64_t live_blocks_ = 0;    // of heap and GPU
  std::optional<SampleRecord> sample_;
  std::map<uint32_t, uint64_t> losses_;
  uint64_t lost_events_ = 0;

  // As it was at Mark, of what was changed since.
  bool marked_ = false;
  absl::flat_hash_map<uint64_t, std::optional<Block>> old_blocks_;
  absl::flat_hash_map<uint32_t, Row> old_rows_;
  MappingTable old_mappings_;
  uint64_t old_heap_bytes_ = 0, old_mapped_bytes_ = 0, old_gpu_bytes_ = 0, old_live_blocks_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_WATCH_LIVE_LEDGER_H_
