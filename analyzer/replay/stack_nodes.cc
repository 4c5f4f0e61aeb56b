#include "analyzer/replay/stack_nodes.h"

namespace ollamatrace {
namespace {

// The library numbers nodes one after the other, and may leave out those that nothing came of.
constexpr size_t kDenseIds = 1 << 16;
constexpr size_t kMostIdsANode = 4;

}  // namespace

void StackNodes::Set(StackId id, const Node& node) {
  const uint32_t number = static_cast<uint32_t>(id);
  if (number == 0) return;
  const auto [place, added] =
      place_of_.try_emplace({node.address, static_cast<uint32_t>(node.module), node.exact},
                            static_cast<Place>(places_.size()));
  if (added) places_.push_back({StackId{}, node.module, node.address, node.exact});
  const Entry entry = {static_cast<uint32_t>(node.parent), place->second};
  if (number >= entries_.size() && number < kDenseIds + kMostIdsANode * size_) {
    while (entries_.size() <= number) entries_.push_back(Entry());
  }
  // What was far once stays there.
  const auto far = far_.empty() ? far_.end() : far_.find(number);
  if (far != far_.end()) {
    far->second = entry;
    return;
  }
  ++size_;
  if (number >= entries_.size()) {
    far_.emplace(number, entry);
    return;
  }
  if (entries_[number].place != kNone) --size_;
  entries_[number] = entry;
}

}  // namespace ollamatrace
