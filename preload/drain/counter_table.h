#ifndef OLLAMATRACE_PRELOAD_DRAIN_COUNTER_TABLE_H_
#define OLLAMATRACE_PRELOAD_DRAIN_COUNTER_TABLE_H_

// The journal's counters, one slot for each stack and domain (two in mode sample), found through an
// array by stack: nearly every stack has one domain only; the slots of others are chained.

#include <cstdint>

#include "formats/sample_weight.h"
#include "preload/drain/undo_log.h"
#include "preload/journal/journal.h"

namespace ollamatrace {

class CounterTable {
 public:
  struct Node {
    uint32_t next;   // 1 + slot of the same stack and another domain
    uint32_t batch;  // whose undo log has the slot's words
  };
  static constexpr uint32_t kUndoWordsOfSlot = 8;

  // Zeroed memory: `slots` (1 + slot, 0: none) for kMaxNodes stacks, `nodes` for `capacity` slots.
  void Init(Journal* journal, UndoLog* undo, uint32_t capacity, uint32_t* slots, Node* nodes) {
    journal_ = journal;
    undo_ = undo;
    capacity_ = capacity;
    used_ = 0;
    slots_ = slots;
    nodes_ = nodes;
    batch_ = 1;
  }

  uint32_t used() const { return used_; }  // slots; they are numbered from 0
  void NextBatch() { ++batch_; }
  CounterSlot* slot(uint32_t index) const { return journal_->counter(index); }

  // For a stack whose slot will be changed soon: first what leads to it, later the slot.
  void PrefetchLink(uint32_t stack) const { __builtin_prefetch(&slots_[stack % kMaxNodes]); }
  void PrefetchSlot(uint32_t stack) const {
    const uint32_t link = slots_[stack % kMaxNodes];
    if (link == 0) return;
    __builtin_prefetch(&nodes_[link - 1]);
    __builtin_prefetch(journal_->counter(link - 1), 1);
  }

  // The slot, ready to be changed; nullptr: the table is full.
  CounterSlot* Change(uint32_t stack, Domain domain) {
    return ChangeSlot(stack, static_cast<uint32_t>(domain));
  }
  WeightSlot* ChangeWeights(uint32_t stack, Domain domain) {
    return reinterpret_cast<WeightSlot*>(
        ChangeSlot(stack, static_cast<uint32_t>(domain) | kWeightSlot));
  }

 private:
  CounterSlot* ChangeSlot(uint32_t stack, uint32_t wanted) {
    uint32_t* link = &slots_[stack < kMaxNodes ? stack : 0];
    while (*link != 0) {
      CounterSlot* const slot = journal_->counter(*link - 1);
      Node* const node = &nodes_[*link - 1];
      if (slot->domain == wanted) {
        if (node->batch != batch_) {
          node->batch = batch_;
          undo_->Push(&slot->pairs, 7);
        }
        return slot;
      }
      link = &node->next;
    }
    if (used_ >= capacity_) return nullptr;
    if (!ReserveJournal(journal_, kCountersOffset + uint64_t{used_} * sizeof(CounterSlot),
                        sizeof(CounterSlot))) {
      capacity_ = used_;
      return nullptr;
    }
    // No undo: the journal's counters_used, changed at the end of the batch, doesn't cover it yet.
    const uint32_t index = used_++;
    *link = used_;
    nodes_[index] = {0, batch_};
    CounterSlot* const slot = journal_->counter(index);
    *slot = {};
    slot->stack = stack < kMaxNodes ? stack : 0;
    slot->domain = wanted;
    DrainStep();
    return slot;
  }

  Journal* journal_;
  UndoLog* undo_;
  uint32_t* slots_;
  Node* nodes_;
  uint32_t capacity_;
  uint32_t used_;
  uint32_t batch_;
};

inline void AddLive(CounterSlot* slot, uint64_t bytes) {
  slot->live_bytes += bytes;
  if (slot->live_bytes > slot->peak_bytes) slot->peak_bytes = slot->live_bytes;
  DrainStep();
}

inline void DropLive(CounterSlot* slot, uint64_t bytes) {
  slot->live_bytes -= bytes < slot->live_bytes ? bytes : slot->live_bytes;
  DrainStep();
}

// `live_bytes`: what AddLive was told of the block.
inline void AddPair(CounterSlot* slot, uint64_t bytes, uint64_t live_bytes, uint64_t begin_ns,
                    uint64_t end_ns) {
  if (slot->pairs == 0 || begin_ns < slot->first_ns) slot->first_ns = begin_ns;
  if (begin_ns > slot->last_ns) slot->last_ns = begin_ns;
  ++slot->pairs;
  slot->bytes += bytes;
  // Ticks of two CPUs may differ by a little.
  if (end_ns > begin_ns) slot->lifetime_ns += end_ns - begin_ns;
  DropLive(slot, live_bytes);
}

inline void AddWeight(WeightSlot* slot, const SampleWeight& weight) {
  const auto add = [](uint64_t* sum, uint64_t value) {
    if (__builtin_add_overflow(*sum, value, sum)) *sum = ~uint64_t{0};
  };
  add(&slot->blocks, weight.blocks);
  add(&slot->bytes, weight.bytes);
  add(&slot->blocks_variance, weight.blocks_variance);
  add(&slot->bytes_variance, weight.bytes_variance);
  DrainStep();
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_COUNTER_TABLE_H_
