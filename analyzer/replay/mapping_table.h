// The address ranges that are mapped at a moment, as mmap, munmap and mremap left them.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_MAPPING_TABLE_H_
#define OLLAMATRACE_ANALYZER_REPLAY_MAPPING_TABLE_H_

#include <cstdint>
#include <functional>
#include <map>

#include "absl/container/flat_hash_map.h"
#include "analyzer/replay/process_history.h"

namespace ollamatrace {

struct Mapping {
  StackKey key;
  uint64_t time_ns = 0;
};

// Thread-compatible. Memory: one entry for each piece that is mapped.
class MappingTable {
 public:
  // `removed(mapping, bytes, last)`: `bytes` of this mapping are gone; `last` when nothing of it is
  // left.
  using Removed = std::function<void(const Mapping&, uint64_t bytes, bool last)>;

  // Maps [begin, begin + length). What was there before is removed first. A range that would wrap
  // ends at the top.
  void Map(uint64_t begin, uint64_t length, const Mapping& mapping, const Removed& removed);
  // Returns the number of bytes that were mapped there.
  uint64_t Unmap(uint64_t begin, uint64_t length, const Removed& removed);

  // Calls `visit(mapping, bytes, first)` for each piece; `first` for one piece of each mapping.
  void ForEach(const std::function<void(const Mapping&, uint64_t bytes, bool first)>& visit) const;

  // Calls `visit(begin, end, mapping)` for each piece, by address.
  void ForEachPiece(
      const std::function<void(uint64_t begin, uint64_t end, const Mapping&)>& visit) const;

  size_t pieces() const { return pieces_.size(); }

 private:
  struct Piece {
    uint64_t end = 0;
    uint64_t origin = 0;  // the mapping that this is a piece of
    Mapping mapping;
  };
  std::map<uint64_t, Piece> pieces_;  // by first address; disjoint
  absl::flat_hash_map<uint64_t, uint64_t>
      split_;  // origin -> pieces, of mappings in several pieces
  uint64_t next_origin_ = 1;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_MAPPING_TABLE_H_
