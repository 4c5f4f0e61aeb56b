#include "analyzer/replay/layout_recorder.h"

#include <algorithm>
#include <utility>

namespace ollamatrace {

void LayoutRecorder::AddMappings(const MappingTable& mappings, const RowOf& row_of) {
  mappings.ForEachPiece([&](uint64_t begin, uint64_t end, const Mapping& mapping) {
    // A file's pages are its own mapping's in the map.
    if (mapping.time_ns > map_ns_ || mapping.key.mapping == MappingClass::kFile) return;
    mappings_.push_back({begin, end, row_of(mapping)});
  });
}

void LayoutRecorder::OnMemoryMap(const MemoryMapRecord& record, const MappingTable& mappings,
                                 const RowOf& row_of) {
  map_ns_ = record.time_ns;
  earlier_body_ = std::move(body_);
  body_.assign(record.body.data == nullptr ? "" : record.body.data, record.body.size);
  freed_.clear();
  mappings_.clear();
  AddMappings(mappings, row_of);
}

std::optional<MemoryLayout> LayoutRecorder::Finish(uint64_t page_bytes, std::vector<LaidBlock> live,
                                                   const MappingTable& mappings,
                                                   const RowOf& row_of) {
  if (map_ns_ == 0) return std::nullopt;
  absl::StatusOr<MemoryMap> map = DecodeMemoryMap(map_ns_, page_bytes, body_);
  if (!map.ok()) return std::nullopt;
  MemoryLayout layout;
  layout.map = *std::move(map);
  // A look from outside does not tell which threads are the tracer's, and maybe not which mappings;
  // the one before from inside did.
  if (layout.map.own_threads.empty()) {
    absl::StatusOr<MemoryMap> earlier = DecodeMemoryMap(map_ns_, page_bytes, earlier_body_);
    if (earlier.ok()) {
      if (layout.map.own.empty()) layout.map.own = std::move(earlier->own);
      for (const uint64_t thread : earlier->own_threads) {
        if (std::erase(layout.map.threads, thread) > 0) layout.map.own_threads.push_back(thread);
      }
    }
  }
  layout.page_bytes = page_bytes;
  // Young mappings are written late.
  AddMappings(mappings, row_of);
  layout.mappings = std::move(mappings_);
  layout.blocks = std::move(live);
  layout.blocks.insert(layout.blocks.end(), freed_.begin(), freed_.end());
  // Of two blocks at one address, which a damaged trace may have, one.
  std::stable_sort(layout.blocks.begin(), layout.blocks.end(),
                   [](const LaidBlock& a, const LaidBlock& b) { return a.address < b.address; });
  layout.blocks.erase(
      std::unique(layout.blocks.begin(), layout.blocks.end(),
                  [](const LaidBlock& a, const LaidBlock& b) { return a.address == b.address; }),
      layout.blocks.end());
  return layout;
}

}  // namespace ollamatrace
