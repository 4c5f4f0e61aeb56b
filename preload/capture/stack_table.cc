#include "preload/capture/stack_table.h"

#include "preload/capture/modules.h"

namespace ollamatrace {
namespace {

constexpr uint32_t kLevelBits[] = {13, 17, 20};
constexpr uint64_t kHashFactor = UINT64_C(0x9E3779B97F4A7C15);

uint64_t Hash(uint32_t parent, uintptr_t pc) {
  uint64_t hash = (pc ^ uint64_t{parent} << 32) * kHashFactor;
  hash ^= hash >> 32;
  return hash * UINT64_C(0xD6E8FEB86659FD93);
}

// The product's lower bits hear little of the upper ones.
uint64_t Mixed(uint64_t hash) { return hash ^ hash >> 29; }

}  // namespace

size_t StackTableBytes() {
  size_t words = kMaxNodes;
  for (const uint32_t bits : kLevelBits) words += size_t{1} << bits;
  return (size_t{1} << kSeenLineBits) * sizeof(SeenLine) + words * sizeof(uint32_t);
}

void StackTable::Init(Journal* journal, void* memory) {
  journal_ = journal;
  seen_ = static_cast<SeenLine*>(memory);
  auto* words = reinterpret_cast<uint32_t*>(seen_ + (size_t{1} << kSeenLineBits));
  uint32_t from = 0;
  for (int i = 0; i < kLevels; ++i) {
    levels_[i] = {reinterpret_cast<std::atomic<uint32_t>*>(words), kLevelBits[i], from};
    words += size_t{1} << kLevelBits[i];
    from = 2u << kLevelBits[i];
  }
  next_ = words;
}

StackId StackTable::FindElsewhere(uint64_t hash) const {
  for (const std::atomic<uint64_t>& word : LineOf(hash)->words) {
    const uint64_t value = word.load(std::memory_order_acquire);
    if (((value ^ hash) & ~kIdMask) == 0) return StackId{static_cast<uint32_t>(value & kIdMask)};
  }
  return StackId{};
}

void StackTable::Remember(uint64_t hash, StackId id) {
  SeenLine* const line = LineOf(hash);
  std::atomic<uint64_t>* place = &line->words[FirstPlace(hash)];
  if ((place->load(std::memory_order_relaxed) & kIdMask) != 0) {
    for (std::atomic<uint64_t>& other : line->words) {
      if ((other.load(std::memory_order_relaxed) & kIdMask) != 0) continue;
      place = &other;
      break;
    }
  }
  place->store((hash & ~kIdMask) | static_cast<uint32_t>(id), std::memory_order_release);
}

StackId StackTable::Intern(StackMemo* memo, const uintptr_t* pcs, int depth, int unchanged,
                           bool* complete) {
  *complete = true;
  const auto wanted = static_cast<uint32_t>(depth);
  if (wanted == 0) return StackId{};
  const uint32_t generation = ModulesGeneration();
  uint32_t same = 0;
  if (memo->generation == generation) {
    same = static_cast<uint32_t>(unchanged) < memo->depth ? static_cast<uint32_t>(unchanged)
                                                          : memo->depth;
  }
  memo->generation = 0;  // until it is whole again: a signal handler may never return here
  // New code at an old address is another stack: the generation is part of the hash.
  uint64_t hash = same == 0 ? generation * kHashFactor : memo->hashes[same - 1];
  for (uint32_t i = same; i < wanted; ++i) {
    hash = ((hash << 23 | hash >> 41) ^ pcs[wanted - 1 - i]) * kHashFactor;
    memo->hashes[i] = hash;
  }
  memo->depth = wanted;
  StackId found = Find(Mixed(hash));
  if (found == StackId{}) {
    // The longest outer part that was seen, then what is new.
    uint32_t from = wanted - 1;
    uint32_t id = 0;
    for (; from > 0 && id == 0; from -= id == 0 ? 1 : 0) {
      id = static_cast<uint32_t>(Find(Mixed(memo->hashes[from - 1])));
    }
    for (; from < wanted; ++from) {
      const uint32_t next = FindOrAdd(id, pcs[wanted - 1 - from]);
      if (next == 0) break;
      id = next;
      Remember(Mixed(memo->hashes[from]), StackId{id});
    }
    *complete = from == wanted;
    found = StackId{id};
  }
  memo->generation = generation;
  return found;
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
