#include "preload/capture/stack_table.h"

#include "preload/capture/modules.h"

namespace ollamatrace {
namespace {

constexpr uint32_t kLevelBits[] = {13, 17, 20};

uint64_t Hash(uint32_t parent, uintptr_t pc) {
  uint64_t hash = (pc ^ uint64_t{parent} << 32) * UINT64_C(0x9E3779B97F4A7C15);
  hash ^= hash >> 32;
  return hash * UINT64_C(0xD6E8FEB86659FD93);
}

}  // namespace

size_t StackTableBytes() {
  size_t words = kMaxNodes;
  for (const uint32_t bits : kLevelBits) words += size_t{1} << bits;
  return words * sizeof(uint32_t);
}

void StackTable::Init(Journal* journal, void* memory) {
  journal_ = journal;
  auto* words = static_cast<uint32_t*>(memory);
  uint32_t from = 0;
  for (int i = 0; i < kLevels; ++i) {
    levels_[i] = {reinterpret_cast<std::atomic<uint32_t>*>(words), kLevelBits[i], from};
    words += size_t{1} << kLevelBits[i];
    from = 2u << kLevelBits[i];
  }
  next_ = words;
}

StackId StackTable::Intern(StackMemo* memo, const uintptr_t* pcs, int depth, int unchanged,
                           bool* complete) {
  const uint32_t generation = ModulesGeneration();
  uint32_t known = 0;
  if (memo->generation == generation) {
    known = static_cast<uint32_t>(unchanged) < memo->depth ? static_cast<uint32_t>(unchanged)
                                                           : memo->depth;
  }
  memo->generation = 0;  // until it is whole again: a signal handler may never return here
  const auto wanted = static_cast<uint32_t>(depth);
  uint32_t id = known == 0 ? 0 : memo->ids[known - 1];
  for (; known < wanted; ++known) {
    const uint32_t next = FindOrAdd(id, pcs[wanted - 1 - known]);
    if (next == 0) break;
    memo->ids[known] = id = next;
  }
  memo->depth = known;
  memo->generation = generation;
  *complete = known == wanted;
  return StackId{id};
}

uint32_t StackTable::FindOrAdd(uint32_t parent, uintptr_t pc) {
  const uint64_t hash = Hash(parent, pc);
  const uint64_t address = pc & ~kExactPc;
  const uint32_t exact = (pc & kExactPc) != 0 ? kNodeExact : 0;
  const uint32_t count = journal_->header()->next_node.load(std::memory_order_relaxed);
  int top = 0;
  while (top + 1 < kLevels && count >= levels_[top + 1].from) ++top;

  auto matches = [&](const StackNode& node) {
    return node.address == address && node.parent == parent &&
           (node.module & kNodeExact) == exact &&
           !IsModuleUnloaded(ModuleId{node.module & ~kNodeExact});
  };

  std::atomic<uint32_t>* head = nullptr;
  uint32_t first = 0;
  for (int i = top; i >= 0; --i) {
    std::atomic<uint32_t>& chain = levels_[i].heads[hash >> (64 - levels_[i].bits)];
    const uint32_t begin = chain.load(std::memory_order_acquire);
    if (i == top) {
      head = &chain;
      first = begin;
    }
    for (uint32_t id = begin; id != 0; id = next_[id]) {
      if (matches(*journal_->node(id))) return id;
    }
  }

  if (count >= kMaxNodes) return 0;
  const uint32_t id = journal_->header()->next_node.fetch_add(1, std::memory_order_relaxed);
  if (id >= kMaxNodes) {
    journal_->header()->next_node.store(kMaxNodes, std::memory_order_relaxed);
    return 0;
  }
  StackNode* node = journal_->node(id);
  if (!ReserveJournal(journal_, reinterpret_cast<uint8_t*>(node) - journal_->base,
                      sizeof(StackNode))) {
    return 0;
  }
  node->parent = parent;
  node->module = static_cast<uint32_t>(FindModuleId(exact != 0 ? address : address - 1)) | exact;
  node->address = address;  // last: a node without an address is one that is being made
  next_[id] = first;
  uint32_t expected = first;
  while (!head->compare_exchange_weak(expected, id, std::memory_order_acq_rel,
                                      std::memory_order_acquire)) {
    // Others came first; perhaps with this very frame. Then ours stays unused.
    for (uint32_t other = expected; other != first; other = next_[other]) {
      if (matches(*journal_->node(other))) return other;
    }
    next_[id] = first = expected;
  }
  return id;
}

}  // namespace ollamatrace
