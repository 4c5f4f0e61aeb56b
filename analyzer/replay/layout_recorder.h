// What lived where at the moment of a trace's last memory map: the state at the end, with what was
// freed since put back, and what was allocated since left out.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_LAYOUT_RECORDER_H_
#define OLLAMATRACE_ANALYZER_REPLAY_LAYOUT_RECORDER_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/replay/mapping_table.h"
#include "analyzer/replay/memory_layout.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// Thread-compatible. Memory: what was freed since the map, the mapped pieces, and the map itself.
class LayoutRecorder {
 public:
  // A row stands for a StackKey; kNoKey for none.
  using RowOf = std::function<uint32_t(const Mapping&)>;

  // The mappings are those at the map's place in the trace.
  void OnMemoryMap(const MemoryMapRecord& record, const MappingTable& mappings,
                   const RowOf& row_of);
  // The map's time: blocks that were allocated later are not part of the layout. 0 without a map.
  uint64_t map_ns() const { return map_ns_; }
  // A block that was allocated at or before map_ns() was freed at `time_ns`.
  void Freed(uint64_t address, uint64_t size, uint32_t row, uint64_t time_ns) {
    if (time_ns > map_ns_) freed_.push_back({address, size, row});
  }

  // Once, at the end, with all blocks of the heap that are live and not younger than the map.
  // Nothing when there was no map, or none that can be decoded.
  std::optional<MemoryLayout> Finish(uint64_t page_bytes, std::vector<LaidBlock> live,
                                     const MappingTable& mappings, const RowOf& row_of);

 private:
  void AddMappings(const MappingTable& mappings, const RowOf& row_of);

  uint64_t map_ns_ = 0;
  std::string body_;
  std::string earlier_body_;
  std::vector<LaidBlock> freed_;
  std::vector<LaidMapping> mappings_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_LAYOUT_RECORDER_H_
