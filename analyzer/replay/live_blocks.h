// The live blocks of a domain, by address.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_LIVE_BLOCKS_H_
#define OLLAMATRACE_ANALYZER_REPLAY_LIVE_BLOCKS_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/hash/hash.h"
#include "formats/gpu_records.h"

namespace ollamatrace {

struct LiveBlock {
  uint64_t address = 0;
  uint64_t size = 0;
  uint64_t time_ns = 0;         // of its allocation
  uint32_t row = 0;             // of its stack
  uint32_t device = kNoDevice;  // of a GPU domain
};

// A hash table for replay. A byte for each place says whether it may be the one: these bytes are so
// few that they stay near, and what they lead to can be asked for ahead. Pointers hold until the
// next change. Thread-compatible. Memory: 33 bytes a place, of which 4 in 5 are taken at most, and
// more than half were once.
class LiveBlocks {
 public:
  // A Find of this address follows soon; or an Add.
  void Prefetch(uint64_t address) const {
    if (places_.empty()) return;
    const uint64_t hash = HashOf(address);
    const uint8_t tag = TagOf(hash);
    size_t i = HomeOf(hash);
    while (tags_[i] != kFree && tags_[i] != tag) i = After(i);
    __builtin_prefetch(&places_[i], 1);
  }
  // nullptr: none is live there.
  LiveBlock* Find(uint64_t address);
  // There must be none with its address.
  void Add(const LiveBlock& block);
  // A block that Find gave.
  void Remove(LiveBlock* block);
  size_t size() const { return size_; }

  template <typename Visit>
  void ForEach(const Visit& visit) const {
    for (size_t i = 0; i < places_.size(); ++i) {
      if (tags_[i] != kFree) visit(places_[i]);
    }
  }

 private:
  static constexpr uint8_t kFree = 0;
  static constexpr size_t kLeastPlaces = 1 << 10;

  // Salted: no trace can be made so that its addresses collide.
  static uint64_t HashOf(uint64_t address) { return absl::Hash<uint64_t>()(address); }
  size_t HomeOf(uint64_t hash) const { return (hash >> 32) * places_.size() >> 32; }
  static uint8_t TagOf(uint64_t hash) { return static_cast<uint8_t>(hash | 1); }
  size_t After(size_t i) const { return i + 1 == places_.size() ? 0 : i + 1; }
  // How far `to` is behind `from`.
  size_t Distance(size_t from, size_t to) const {
    return to >= from ? to - from : to + places_.size() - from;
  }
  void Grow();

  std::vector<LiveBlock> places_;
  std::vector<uint8_t> tags_;  // of the block at each place, or kFree
  size_t size_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_LIVE_BLOCKS_H_
