// What is live at the end of a trace, block by block: the plainest possible reading of it, on
// purpose without the analyzer's code. Counts what cannot be: the trace's order is the true order
// of each address.
#ifndef OLLAMATRACE_TESTS_EXACTNESS_LIVE_STATE_H_
#define OLLAMATRACE_TESTS_EXACTNESS_LIVE_STATE_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <unordered_map>
#include <vector>

#include "absl/status/statusor.h"
#include "formats/read_summary.h"
#include "formats/trace_format.h"
#include "formats/trace_visitor.h"

namespace ollamatrace {

class LiveState : public TraceVisitor {
 public:
  struct Block {
    uint64_t size;
    StackId stack;
  };

  // Heap blocks by address.
  const std::unordered_map<uint64_t, Block>& blocks() const { return blocks_; }
  // Ranges mapped without a file, begin to end, as they were recorded: neighbours stay apart.
  const std::map<uint64_t, uint64_t>& mappings() const { return mappings_; }

  uint64_t allocations = 0;  // Heap events in the trace, and pairs that were folded away.
  uint64_t frees = 0;
  uint64_t folded_pairs = 0;
  uint64_t folded_bytes = 0;
  uint64_t allocated_bytes = 0;  // Of `allocations`.
  uint64_t lost_events = 0;      // Of all kinds but kUnfinished: a call that never returned.
  uint64_t mismatches = 0;       // A block over a live one, a free of none.
  bool has_header = false;
  HeaderRecord header;                  // Without its texts.
  std::vector<std::string> complaints;  // The first mismatches and the trace's messages.

  void OnHeader(const HeaderRecord& record) override;
  void OnAlloc(const AllocRecord& record) override;
  void OnFree(const FreeRecord& record) override;
  void OnMap(const MapRecord& record) override;
  void OnUnmap(const UnmapRecord& record) override;
  void OnCounters(const CountersRecord& record) override;
  void OnDropped(const DroppedRecord& record) override;
  void OnLoss(const LossRecord& record) override;
  void OnMessage(const MessageRecord& record) override;

 private:
  void Mismatch(const char* what, uint64_t address, uint64_t time_ns);
  void Remove(uint64_t begin, uint64_t end);

  std::unordered_map<uint64_t, Block> blocks_;
  std::map<uint64_t, uint64_t> mappings_;
  std::map<std::pair<uint32_t, int>, CountersRecord> counters_;
  uint64_t losses_[8] = {};
};

// A file of each trace in the folder: of those that have several, any.
std::vector<std::string> TraceFiles(const std::string& folder);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_TESTS_EXACTNESS_LIVE_STATE_H_
