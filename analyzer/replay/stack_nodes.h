// The call stacks of a trace: a tree of nodes, each a place in the code and who called it.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_STACK_NODES_H_
#define OLLAMATRACE_ANALYZER_REPLAY_STACK_NODES_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "analyzer/replay/chunked_vector.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// See NodeRecord.
struct Node {
  StackId parent{};
  ModuleId module{};
  uint64_t address = 0;
  bool exact = false;
};

// Nodes by id. Many nodes have one place: each is kept once and has a number, so that it can be
// named once. Thread-compatible. Memory: 8 bytes for each id up to the greatest, some 50 for each
// place. Ids of a damaged trace that lie far beyond the others cost as much as they are many.
class StackNodes {
 public:
  using Place = uint32_t;

  // A node that is there already is replaced. Id 0 is none, and is ignored.
  void Set(StackId id, const Node& node);

  std::optional<Node> Find(StackId id) const {
    const Entry* const entry = At(static_cast<uint32_t>(id));
    if (entry == nullptr) return std::nullopt;
    return NodeOf(*entry);
  }
  bool Contains(StackId id) const { return At(static_cast<uint32_t>(id)) != nullptr; }
  // Of a node that is there.
  StackId ParentOf(StackId id) const { return StackId{At(static_cast<uint32_t>(id))->parent}; }
  Place PlaceOf(StackId id) const { return At(static_cast<uint32_t>(id))->place; }

  // The node's place, of some node without a parent. place < places().
  const Node& place(Place place) const { return places_[place]; }
  size_t places() const { return places_.size(); }
  // All ids are below, but for those that lie far beyond the others.
  size_t dense_ids() const { return entries_.size(); }
  size_t size() const { return size_; }

 private:
  static constexpr Place kNone = ~Place{0};
  struct Entry {
    uint32_t parent = 0;
    Place place = kNone;
  };

  const Entry* At(uint32_t id) const {
    if (id < entries_.size() && entries_[id].place != kNone) return &entries_[id];
    if (far_.empty()) return nullptr;
    const auto it = far_.find(id);
    return it == far_.end() ? nullptr : &it->second;
  }
  Node NodeOf(const Entry& entry) const {
    Node node = places_[entry.place];
    node.parent = StackId{entry.parent};
    return node;
  }

  ChunkedVector<Entry, 14> entries_;  // by id
  absl::flat_hash_map<uint32_t, Entry> far_;
  std::vector<Node> places_;
  absl::flat_hash_map<std::tuple<uint64_t, uint32_t, bool>, Place> place_of_;
  size_t size_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_STACK_NODES_H_
