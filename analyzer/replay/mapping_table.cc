#include "analyzer/replay/mapping_table.h"

#include <algorithm>

#include "absl/container/flat_hash_set.h"

namespace ollamatrace {
namespace {

uint64_t End(uint64_t begin, uint64_t length) {
  return length > ~begin ? ~uint64_t{0} : begin + length;
}

}  // namespace

void MappingTable::Map(uint64_t begin, uint64_t length, const Mapping& mapping,
                       const Removed& removed) {
  const uint64_t end = End(begin, length);
  if (begin == end) return;
  Unmap(begin, length, removed);
  pieces_[begin] = Piece{end, next_origin_++, mapping};
}

uint64_t MappingTable::Unmap(uint64_t begin, uint64_t length, const Removed& removed) {
  const uint64_t end = End(begin, length);
  uint64_t bytes = 0;
  if (begin == end) return bytes;
  auto it = pieces_.lower_bound(begin);
  if (it != pieces_.begin()) {
    const auto before = std::prev(it);
    if (before->second.end > begin) it = before;
  }
  while (it != pieces_.end() && it->first < end) {
    const uint64_t first = it->first;
    const Piece piece = it->second;
    const uint64_t cut_begin = std::max(first, begin);
    const uint64_t cut_end = std::min(piece.end, end);
    int left = 0;
    if (first < cut_begin) {
      it->second.end = cut_begin;
      ++it;
      ++left;
    } else {
      it = pieces_.erase(it);
    }
    if (cut_end < piece.end) {
      it = pieces_.insert(it, {cut_end, Piece{piece.end, piece.origin, piece.mapping}});
      ++it;
      ++left;
    }
    // One piece became `left` pieces.
    bool last = false;
    const auto split = split_.find(piece.origin);
    const uint64_t count =
        (split == split_.end() ? 1 : split->second) + static_cast<uint64_t>(left) - 1;
    if (count == 0) {
      last = true;
    }
    if (count > 1) {
      split_[piece.origin] = count;
    } else if (split != split_.end()) {
      split_.erase(split);
    }
    bytes += cut_end - cut_begin;
    removed(piece.mapping, cut_end - cut_begin, last);
  }
  return bytes;
}

void MappingTable::ForEach(
    const std::function<void(const Mapping&, uint64_t bytes, bool first)>& visit) const {
  absl::flat_hash_set<uint64_t> seen;
  for (const auto& [begin, piece] : pieces_) {
    const bool first = !split_.contains(piece.origin) || seen.insert(piece.origin).second;
    visit(piece.mapping, piece.end - begin, first);
  }
}

void MappingTable::ForEachPiece(
    const std::function<void(uint64_t begin, uint64_t end, const Mapping&)>& visit) const {
  for (const auto& [begin, piece] : pieces_) visit(begin, piece.end, piece.mapping);
}

}  // namespace ollamatrace
