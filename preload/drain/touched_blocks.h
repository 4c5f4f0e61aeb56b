#ifndef OLLAMATRACE_PRELOAD_DRAIN_TOUCHED_BLOCKS_H_
#define OLLAMATRACE_PRELOAD_DRAIN_TOUCHED_BLOCKS_H_

// The addresses that some segments allocate or free at, and which of them hold a live block at
// their end. Bounded: what finds no room is left for another pass over the segments.

#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/drain/pass_range.h"

namespace ollamatrace {

class TouchedBlocks {
 public:
  struct Entry {
    uint64_t key;         // as BlockEntry::address
    uint64_t packed;      // as BlockEntry::packed, with the flags below
    uint64_t time_ns;     // of the live block's allocation
    uint64_t touched_ns;  // of the first record of this address
    uint32_t stack;
    uint32_t thread;
    uint32_t samples;  // samples before that first record
    uint32_t next;
  };
  static_assert(sizeof(Entry) == 48);
  static constexpr uint64_t kLive = uint64_t{1} << 52;
  // The first record was an allocation: nothing was live here before.
  static constexpr uint64_t kBornHere = uint64_t{1} << 53;

  static constexpr uint32_t kMaxEntries = 384u << 10;  // 18 MiB

  static uint32_t BucketsFor(uint32_t capacity) {
    uint32_t buckets = 256;
    while (buckets < capacity) buckets *= 2;
    return buckets;
  }

  // Zeroed memory: 1 + `capacity` entries, BucketsFor(capacity) buckets.
  void Init(Entry* entries, uint32_t* buckets, uint32_t capacity) {
    entries_ = entries;
    buckets_ = buckets;
    capacity_ = capacity;
    bucket_mask_ = BucketsFor(capacity) - 1;
    pass_.Start(kAllHashes);
    Clear();
  }

  // The keys of a pass are hashes of addresses.
  const PassRange& pass() const { return pass_; }
  bool IsInPass(uint64_t key) const { return pass_.Contains(Hash(key)); }
  // The next pass, with an empty table. False: there is none left to do.
  bool NextPass() {
    Clear();
    return pass_.Next();
  }

  // nullptr: there is none.
  Entry* Find(uint64_t key) {
    for (uint32_t i = buckets_[Bucket(key)]; i != 0; i = entries_[i].next) {
      if (entries_[i].key == key) return &entries_[i];
    }
    return nullptr;
  }
  // A new entry, zeroed but for its key. nullptr: no room.
  Entry* Add(uint64_t key) {
    uint32_t index = free_;
    if (index != 0) {
      free_ = entries_[index].next;
    } else {
      if (used_ >= capacity_) return nullptr;
      index = ++used_;
    }
    uint32_t* const bucket = &buckets_[Bucket(key)];
    entries_[index] = {};
    entries_[index].key = key;
    entries_[index].next = *bucket;
    *bucket = index;
    return &entries_[index];
  }
  // Leaves half of the pass for another one, from event number `event` on. False: it is as narrow
  // as can be.
  bool Narrow(uint64_t event) {
    if (!pass_.Narrow(pass_.begin() + (pass_.end() - pass_.begin()) / 2, event)) return false;
    RemoveIf([this](const Entry& entry) { return !IsInPass(entry.key); });
    return true;
  }
  // Forgets blocks that came and went. Only where no free was ever lost: then nothing else can be
  // live at their addresses. How many there were.
  uint32_t ForgetPairs() {
    return RemoveIf(
        [](const Entry& entry) { return (entry.packed & (kLive | kBornHere)) == kBornHere; });
  }

  // Entries are numbered 1 to used(); those that are not in use have key 0.
  uint32_t used() const { return used_; }
  const Entry& entry(uint32_t index) const { return entries_[index]; }

 private:
  static constexpr uint64_t kAllHashes = uint64_t{1} << 32;

  void Clear() {
    for (uint32_t i = 0; i <= bucket_mask_; ++i) buckets_[i] = 0;
    used_ = 0;
    free_ = 0;
  }
  static uint32_t Hash(uint64_t key) {
    uint64_t hash = (key >> 4) * UINT64_C(0x9E3779B97F4A7C15);
    hash ^= hash >> 32;
    return static_cast<uint32_t>(hash * UINT64_C(0xD6E8FEB86659FD93) >> 32);
  }
  // The pass is about the upper bits, the bucket about the lower.
  uint32_t Bucket(uint64_t key) const { return Hash(key) & bucket_mask_; }

  template <typename Condition>
  uint32_t RemoveIf(Condition condition) {
    uint32_t removed = 0;
    for (uint32_t bucket = 0; bucket <= bucket_mask_; ++bucket) {
      for (uint32_t* link = &buckets_[bucket]; *link != 0;) {
        const uint32_t index = *link;
        Entry* const entry = &entries_[index];
        if (!condition(*entry)) {
          link = &entry->next;
          continue;
        }
        *link = entry->next;
        entry->key = 0;
        entry->next = free_;
        free_ = index;
        ++removed;
      }
    }
    return removed;
  }

  Entry* entries_;
  uint32_t* buckets_;
  uint32_t capacity_;
  uint32_t bucket_mask_;
  uint32_t used_;
  uint32_t free_;
  PassRange pass_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_TOUCHED_BLOCKS_H_
