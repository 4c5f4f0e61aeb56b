#ifndef OLLAMATRACE_PRELOAD_DRAIN_BLOCK_POOL_H_
#define OLLAMATRACE_PRELOAD_DRAIN_BLOCK_POOL_H_

// The live blocks that the drain holds: entries of the journal's pool, found by address.
//
// The index is private memory: a chained hash table that grows by one bucket at a time (linear
// hashing), so that a program with few blocks touches little of it and no batch pays for a rehash.
//
// A block that comes and goes within one batch costs no undo: the address, which makes an entry
// part of the journal's state, is stored at the end of the batch only (StoreBorn). An entry that
// was committed and freed is used again after the next commit, so that an undo finds its other
// fields untouched.

#include <cstdint>

#include "preload/drain/undo_log.h"
#include "preload/journal/journal.h"

namespace ollamatrace {

inline constexpr uint32_t kFirstBuckets = 1024;

class BlockPool {
 public:
  struct Node {
    uint64_t address;  // 0: free
    uint32_t next;     // in the bucket, or in a list of free entries
    uint32_t born;     // 1 + place in the list of this batch's new entries; 0: committed
  };

  static uint32_t BucketsFor(uint32_t capacity) {
    uint32_t buckets = kFirstBuckets;
    while (buckets < 2 * capacity) buckets *= 2;
    return buckets;
  }

  // Zeroed memory: `nodes` for `capacity` entries, `buckets` BucketsFor(capacity), `born` as many
  // as events of one batch.
  void Init(Journal* journal, UndoLog* undo, uint32_t capacity, Node* nodes, uint32_t* buckets,
            uint32_t* born) {
    journal_ = journal;
    undo_ = undo;
    capacity_ = capacity;
    nodes_ = nodes;
    buckets_ = buckets;
    born_ = born;
    max_buckets_ = BucketsFor(capacity);
    round_ = kFirstBuckets;
    bucket_count_ = kFirstBuckets;
    used_ = 1;  // entry 0 is never used: 0 means none
  }

  uint32_t used() const { return used_; }
  uint32_t live() const { return live_; }
  uint32_t born_count() const { return born_count_; }
  // Entries that may be taken in this batch.
  uint32_t room() const { return capacity_ - used_ + free_count_; }
  uint32_t capacity() const { return capacity_; }
  uint32_t buckets() const { return bucket_count_; }

  BlockEntry* block(uint32_t entry) const { return journal_->block(entry); }
  bool IsLive(uint32_t entry) const { return nodes_[entry].address != 0; }
  bool IsBorn(uint32_t entry) const { return nodes_[entry].born != 0; }
  uint64_t Address(uint32_t entry) const { return nodes_[entry].address; }

  // 0: the pool holds no such block.
  uint32_t Find(uint64_t address) {
    uint32_t* link = &buckets_[Bucket(address)];
    while (*link != 0 && nodes_[*link].address != address) link = &nodes_[*link].next;
    found_ = link;
    return *link;
  }

  // For an address that will be looked for soon: first its bucket, later what is in it.
  void PrefetchBucket(uint64_t address) const { __builtin_prefetch(&buckets_[Bucket(address)]); }
  void PrefetchEntry(uint64_t address) const {
    const uint32_t entry = buckets_[Bucket(address)];
    __builtin_prefetch(&nodes_[entry]);
    __builtin_prefetch(journal_->block(entry));
  }

  // To be called after Find of this address, which found none or what is removed by now. 0: no
  // room, in this batch or for want of disk space.
  uint32_t Add(uint64_t address, uint64_t packed, uint64_t time_ns, uint32_t stack,
               uint32_t thread) {
    uint32_t entry = free_;
    if (entry != 0) {
      free_ = nodes_[entry].next;
      --free_count_;
    } else {
      if (used_ >= capacity_) return 0;
      if (!ReserveJournal(journal_, kPoolOffset + uint64_t{used_} * sizeof(BlockEntry),
                          sizeof(BlockEntry))) {
        capacity_ = used_;  // what is left of the disk is for the trace
        return 0;
      }
      entry = used_++;
    }
    BlockEntry* const block = journal_->block(entry);
    block->packed = packed;
    block->time_ns = time_ns;
    block->stack = stack;
    block->thread = thread;
    born_[born_count_++] = entry;
    ++live_;
    if (NeedsBuckets()) {
      while (NeedsBuckets()) SplitBucket();
      Find(address);
    }
    nodes_[entry] = {address, *found_, born_count_};
    *found_ = entry;
    return entry;
  }

  void Remove(uint32_t entry) {
    Node* const node = &nodes_[entry];
    // Whatever points to a live entry is the link before it.
    uint32_t* link =
        found_ != nullptr && *found_ == entry ? found_ : &buckets_[Bucket(node->address)];
    while (*link != entry) link = &nodes_[*link].next;
    *link = node->next;
    node->address = 0;
    --live_;
    if (node->born != 0) {
      const uint32_t moved = born_[--born_count_];
      born_[node->born - 1] = moved;
      nodes_[moved].born = node->born;
      node->born = 0;
      node->next = free_;
      free_ = entry;
      ++free_count_;
    } else {
      BlockEntry* const block = journal_->block(entry);
      undo_->Push(&block->address, 1);
      StoreWord(&block->address, uint64_t{0});
      if (freed_ == 0) last_freed_ = entry;
      node->next = freed_;
      freed_ = entry;
      ++freed_count_;
    }
  }

  // Makes the batch's new entries part of the journal's state: 2 undo words each.
  void StoreBorn() {
    for (uint32_t i = 0; i < born_count_; ++i) {
      const uint32_t entry = born_[i];
      BlockEntry* const block = journal_->block(entry);
      // What an undo would find there is 0, whatever a fresh disk block holds.
      undo_->Push(&block->address, 1);
      StoreWord(&block->address, nodes_[entry].address);
      nodes_[entry].born = 0;
    }
    born_count_ = 0;
  }

  // After the commit: what was freed may be used again.
  void ReuseFreed() {
    if (freed_ == 0) return;
    nodes_[last_freed_].next = free_;
    free_ = freed_;
    free_count_ += freed_count_;
    freed_ = 0;
    freed_count_ = 0;
  }

 private:
  // Blocks of one page share a few cache lines of buckets: they often come and go together.
  static uint32_t Hash(uint64_t address) {
    uint64_t page = (address >> 12) * UINT64_C(0x9E3779B97F4A7C15);
    page ^= page >> 32;
    return static_cast<uint32_t>(page * UINT64_C(0xD6E8FEB86659FD93) >> 32) +
           static_cast<uint32_t>(address >> 4 & 0xff);
  }
  uint32_t Bucket(uint64_t address) const {
    const uint32_t hash = Hash(address);
    const uint32_t bucket = hash & (2 * round_ - 1);
    return bucket < bucket_count_ ? bucket : hash & (round_ - 1);
  }

  bool NeedsBuckets() const { return 2 * live_ > bucket_count_ && bucket_count_ < max_buckets_; }
  void SplitBucket() {
    const uint32_t fresh = bucket_count_++;
    uint32_t* link = &buckets_[fresh - round_];
    uint32_t* fresh_link = &buckets_[fresh];
    for (uint32_t entry = *link; entry != 0; entry = nodes_[entry].next) {
      if ((Hash(nodes_[entry].address) & round_) != 0) {
        *fresh_link = entry;
        fresh_link = &nodes_[entry].next;
      } else {
        *link = entry;
        link = &nodes_[entry].next;
      }
    }
    *link = 0;
    *fresh_link = 0;
    if (bucket_count_ == 2 * round_) round_ *= 2;
  }

  Journal* journal_;
  UndoLog* undo_;
  Node* nodes_;
  uint32_t* buckets_;
  uint32_t* born_;
  uint32_t* found_;  // the link that the last Find followed
  uint32_t capacity_;
  uint32_t max_buckets_;
  uint32_t round_;         // buckets at the beginning of this doubling
  uint32_t bucket_count_;  // round_ to 2 * round_
  uint32_t used_;          // entries below this were used
  uint32_t live_;
  uint32_t born_count_;
  uint32_t free_, free_count_;
  uint32_t freed_, last_freed_, freed_count_;  // in this batch
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_BLOCK_POOL_H_
