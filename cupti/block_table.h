#ifndef OLLAMATRACE_CUPTI_BLOCK_TABLE_H_
#define OLLAMATRACE_CUPTI_BLOCK_TABLE_H_

// What is live on the GPU, by domain and address: a hash table in memory of its own, which grows.
// Not thread-safe: the caller holds a lock.

#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace::cupti {

struct Block {
  uint64_t address;  // or handle
  uint64_t size;
  uint64_t owner;  // of a mapping: the handle; of a graph's memory: the graph
  uint64_t born;   // number of the event, see Ledgers
  Block* next;     // in the table, in a list of a call that is going on, or of free ones
  uint32_t stack;
  uint32_t context;
  uint32_t device;
  Domain domain;
  bool reference_only;  // not a block: a reference to `owner` that a call is about to drop
  // Of physical memory (kVirtual, kImported): what holds it.
  uint32_t handles;
  uint32_t mappings;
};

class BlockTable {
 public:
  // `memory` gives zeroed memory that is never given back, or nullptr.
  void Init(void* (*memory)(size_t)) { memory_ = memory; }

  // A block that is in no list; nullptr when there is no memory.
  Block* New();
  void Delete(Block* block);

  Block* Find(Domain domain, uint64_t address) const;
  // The block is in no list, and there is none with its domain and address. False when there is no
  // memory.
  bool Add(Block* block);
  // Takes it out; it is the caller's.
  void Take(Block* block);
  // Takes out all for which `wanted(const Block&)` is true, into the list `*taken`.
  template <typename Wanted>
  void TakeIf(const Wanted& wanted, Block** taken) {
    for (size_t i = 0; i < buckets_count_; ++i) {
      for (Block** link = &buckets_[i]; *link != nullptr;) {
        Block* const block = *link;
        if (!wanted(*block)) {
          link = &block->next;
          continue;
        }
        *link = block->next;
        --used_;
        block->next = *taken;
        *taken = block;
      }
    }
  }
  size_t used() const { return used_; }

 private:
  bool Grow();
  Block** Bucket(Domain domain, uint64_t address) const;

  void* (*memory_)(size_t) = nullptr;
  Block** buckets_ = nullptr;
  size_t buckets_count_ = 0;  // a power of two
  size_t used_ = 0;
  Block* free_ = nullptr;
};

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_BLOCK_TABLE_H_
