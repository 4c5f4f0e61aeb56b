#include "formats/event_order.h"

#include <algorithm>
#include <array>
#include <tuple>

#include "formats/journal_layout.h"

namespace ollamatrace {
namespace {

struct Place {
  uint32_t shard;
  int32_t position;  // in the shard, counted from the first of its events that was found: seq wraps
  uint32_t ring;
  uint32_t index;

  bool operator<(const Place& other) const {
    return std::tie(shard, position, ring, index) <
           std::tie(other.shard, other.position, other.ring, other.index);
  }
};

struct Shard {
  bool seen = false;
  uint32_t base = 0;  // seq of the event that was found first
  bool any_sure = false;
  int32_t last_sure = 0;  // greatest position of a sure event
  size_t next = 0;        // in the sorted places: the shard's first one that has not come yet
  size_t end = 0;
};

class Merge {
 public:
  Merge(const std::vector<JournalSnapshot::Ring>& rings,
        const std::function<void(size_t, size_t)>& next)
      : rings_(rings), next_(next), shards_(kShards), front_(rings.size(), 0) {}

  uint64_t Run() {
    Sort();
    for (size_t ring = rings_.size(); ring-- > 0;) ready_.push_back(ring);
    // Rings from here on may still have events when none is ready.
    size_t stuck = 0;
    uint64_t contradictions = 0;
    for (;;) {
      while (!ready_.empty()) {
        const size_t ring = ready_.back();
        ready_.pop_back();
        Advance(ring);
      }
      while (stuck < rings_.size() && front_[stuck] == rings_[stuck].events.size()) ++stuck;
      if (stuck == rings_.size()) return contradictions;
      ++contradictions;
      Take(stuck);
      ready_.push_back(stuck);
    }
  }

 private:
  int32_t PositionOf(const Event& event) {
    Shard& shard = shards_[ShardOf(event)];
    if (!shard.seen) {
      shard.seen = true;
      shard.base = event.seq;
    }
    return static_cast<int32_t>(event.seq - shard.base);
  }

  void Sort() {
    size_t count = 0;
    for (size_t r = 0; r < rings_.size(); ++r) {
      const JournalSnapshot::Ring& ring = rings_[r];
      first_.push_back(count);
      count += ring.events.size();
      for (size_t i = 0; i < ring.sure; ++i) {
        const int32_t position = PositionOf(ring.events[i]);
        Shard& shard = shards_[ShardOf(ring.events[i])];
        if (!shard.any_sure || position > shard.last_sure) shard.last_sure = position;
        shard.any_sure = true;
      }
    }
    places_.reserve(count);
    for (uint32_t r = 0; r < rings_.size(); ++r) {
      const std::vector<Event>& events = rings_[r].events;
      for (uint32_t i = 0; i < events.size(); ++i) {
        places_.push_back({ShardOf(events[i]), PositionOf(events[i]), r, i});
      }
    }
    std::sort(places_.begin(), places_.end());
    place_of_.resize(count);
    for (size_t p = 0; p < places_.size(); ++p) {
      const Place& place = places_[p];
      place_of_[first_[place.ring] + place.index] = static_cast<uint32_t>(p);
      Shard& shard = shards_[place.shard];
      if (p == 0 || places_[p - 1].shard != place.shard) shard.next = p;
      shard.end = p + 1;
    }
    taken_.resize(count, false);
  }

  // Takes the ring's events as long as each is its shard's next.
  void Advance(size_t ring) {
    while (front_[ring] < rings_[ring].events.size()) {
      const size_t p = place_of_[first_[ring] + front_[ring]];
      if (shards_[places_[p].shard].next != p) return;
      Take(ring);
    }
  }

  void Take(size_t ring) {
    const size_t index = front_[ring]++;
    const size_t p = place_of_[first_[ring] + index];
    const Place& place = places_[p];
    taken_[p] = true;
    Shard& shard = shards_[place.shard];
    if (index < rings_[ring].sure || (shard.any_sure && place.position < shard.last_sure)) {
      next_(ring, index);
    }
    if (shard.next != p) return;
    while (shard.next != shard.end && taken_[shard.next]) ++shard.next;
    if (shard.next != shard.end) ready_.push_back(places_[shard.next].ring);
  }

  const std::vector<JournalSnapshot::Ring>& rings_;
  const std::function<void(size_t, size_t)>& next_;
  std::vector<Shard> shards_;
  std::vector<Place> places_;       // all events, by shard and position
  std::vector<size_t> first_;       // by ring: the number of events in the rings before it
  std::vector<uint32_t> place_of_;  // by number of the event, counted over the rings
  std::vector<bool> taken_;         // by place
  std::vector<size_t> front_;       // by ring: index of its first event that has not come yet
  std::vector<size_t> ready_;       // rings whose front may be its shard's next
};

}  // namespace

uint64_t ForEachEventInOrder(const std::vector<JournalSnapshot::Ring>& rings,
                             const std::function<void(size_t, size_t)>& next) {
  return Merge(rings, next).Run();
}

}  // namespace ollamatrace
