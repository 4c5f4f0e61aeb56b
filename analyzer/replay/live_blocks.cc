#include "analyzer/replay/live_blocks.h"

#include <algorithm>
#include <utility>

namespace ollamatrace {

LiveBlock* LiveBlocks::Find(uint64_t address) {
  if (places_.empty()) return nullptr;
  const uint64_t hash = HashOf(address);
  const uint8_t tag = TagOf(hash);
  for (size_t i = HomeOf(hash); tags_[i] != kFree; i = After(i)) {
    if (tags_[i] == tag && places_[i].address == address) return &places_[i];
  }
  return nullptr;
}

void LiveBlocks::Add(const LiveBlock& block) {
  if (size_ >= places_.size() / 5 * 4) Grow();
  const uint64_t hash = HashOf(block.address);
  size_t i = HomeOf(hash);
  while (tags_[i] != kFree) i = After(i);
  tags_[i] = TagOf(hash);
  places_[i] = block;
  ++size_;
}

// What stands behind it moves up, so that no look ends too early.
void LiveBlocks::Remove(LiveBlock* block) {
  size_t hole = static_cast<size_t>(block - places_.data());
  for (size_t i = After(hole); tags_[i] != kFree; i = After(i)) {
    const size_t home = HomeOf(HashOf(places_[i].address));
    if (Distance(home, i) < Distance(hole, i)) continue;  // its home is behind the hole
    tags_[hole] = tags_[i];
    places_[hole] = places_[i];
    hole = i;
  }
  tags_[hole] = kFree;
  --size_;
}

void LiveBlocks::Grow() {
  const std::vector<LiveBlock> places = std::move(places_);
  const std::vector<uint8_t> tags = std::move(tags_);
  places_.assign(std::max(kLeastPlaces, places.size() + places.size() / 2), LiveBlock());
  tags_.assign(places_.size(), kFree);
  size_ = 0;
  for (size_t i = 0; i < places.size(); ++i) {
    if (tags[i] != kFree) Add(places[i]);
  }
}

}  // namespace ollamatrace
