#include "preload/capture/stack_table.h"

#include "preload/capture/modules.h"

namespace ollamatrace {
namespace {

constexpr uint32_t kLevelBits[] = {10, 14, 18, 19};
constexpr uint64_t kHashFactor = UINT64_C(0x9E3779B97F4A7C15);
// Lines that a node may be from where it belongs. Beyond: as if the table was full.
constexpr uint32_t kMaxLines = 64;

uint64_t Hash(uint32_t parent, uintptr_t pc) {
  uint64_t hash = (pc ^ uint64_t{parent} << 32) * kHashFactor;
  hash ^= hash >> 32;
  return hash * UINT64_C(0xD6E8FEB86659FD93);
}

// The product's lower bits hear little of the upper ones.
uint64_t Mixed(uint64_t hash) { return hash ^ hash >> 29; }

}  // namespace

size_t StackTable::Bytes() {
  size_t lines = kSeenLines;
  for (const uint32_t bits : kLevelBits) lines += size_t{1} << bits;
  return lines * sizeof(StackIdLine);
}

void StackTable::Init(Journal* journal, void* memory) {
  journal_ = journal;
  seen_ = static_cast<StackIdLine*>(memory);
  StackIdLine* lines = seen_ + kSeenLines;
  uint32_t from = 0;
  for (int i = 0; i < kLevels; ++i) {
    levels_[i] = {lines, kLevelBits[i], from};
    lines += size_t{1} << kLevelBits[i];
    from += StackIdLine::kWords / 2 << kLevelBits[i];
  }
}

StackId StackTable::FindElsewhere(uint64_t hash) const {
  for (const std::atomic<uint64_t>& word : SeenLine(hash)->words) {
    const uint64_t value = word.load(std::memory_order_acquire);
    if (((value ^ hash) & ~kStackIdMask) == 0)
      return StackId{static_cast<uint32_t>(value & kStackIdMask)};
  }
  return StackId{};
}

void StackTable::Remember(uint64_t hash, StackId id) {
  StackIdLine* const line = SeenLine(hash);
  std::atomic<uint64_t>* place = &line->words[FirstPlace(hash)];
  if ((place->load(std::memory_order_relaxed) & kStackIdMask) != 0) {
    for (std::atomic<uint64_t>& other : line->words) {
      if ((other.load(std::memory_order_relaxed) & kStackIdMask) != 0) continue;
      place = &other;
      break;
    }
  }
  place->store((hash & ~kStackIdMask) | static_cast<uint32_t>(id), std::memory_order_release);
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
    for (uint32_t i = same; i < wanted; ++i) __builtin_prefetch(SeenLine(Mixed(memo->hashes[i])));
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

bool StackTable::IsNode(uint32_t id, uint32_t parent, uintptr_t pc) const {
  const StackNode& node = *journal_->node(id);
  return node.address == (pc & ~kExactPc) && node.parent == parent &&
         ((node.module & kNodeExact) != 0) == ((pc & kExactPc) != 0) &&
         !IsModuleUnloaded(ModuleId{node.module & ~kNodeExact});
}

// Puts `id`, whose node is complete, where it belongs, unless the same node is there already.
// Answers the id that holds from now on; 0 when there is no room.
uint32_t StackTable::Insert(const Level& level, uint64_t hash, uint32_t parent, uintptr_t pc,
                            uint32_t id) {
  const uint64_t mask = (uint64_t{1} << level.bits) - 1;
  for (uint32_t i = 0; i < kMaxLines; ++i) {
    for (std::atomic<uint64_t>& place : level.lines[(hash + i) & mask].words) {
      uint64_t word = place.load(std::memory_order_acquire);
      if (word == 0 &&
          place.compare_exchange_strong(word, (hash & ~kStackIdMask) | id,
                                        std::memory_order_acq_rel, std::memory_order_acquire)) {
        return id;
      }
      // Others came first; perhaps with this very frame. Then ours stays unused.
      const auto other = static_cast<uint32_t>(word & kStackIdMask);
      if (((word ^ hash) & ~kStackIdMask) == 0 && IsNode(other, parent, pc)) return other;
    }
  }
  return 0;
}

uint32_t StackTable::FindOrAdd(uint32_t parent, uintptr_t pc) {
  const uint64_t hash = Hash(parent, pc);
  const uint32_t count = journal_->header()->next_node.load(std::memory_order_relaxed);
  int top = 0;
  while (top + 1 < kLevels && count >= levels_[top + 1].from) ++top;
  for (int i = top; i > 0; --i) {
    __builtin_prefetch(&levels_[i - 1].lines[hash & ((uint64_t{1} << levels_[i - 1].bits) - 1)]);
  }
  for (int level = top; level >= 0; --level) {
    const uint64_t mask = (uint64_t{1} << levels_[level].bits) - 1;
    bool more = true;  // a line with a free word is the last one
    for (uint32_t i = 0; i < kMaxLines && more; ++i) {
      for (const std::atomic<uint64_t>& place : levels_[level].lines[(hash + i) & mask].words) {
        const uint64_t word = place.load(std::memory_order_acquire);
        if (word == 0) {
          more = false;
          break;
        }
        const auto id = static_cast<uint32_t>(word & kStackIdMask);
        if (((word ^ hash) & ~kStackIdMask) == 0 && IsNode(id, parent, pc)) return id;
      }
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
  const bool exact = (pc & kExactPc) != 0;
  const uintptr_t address = pc & ~kExactPc;
  node->parent = parent;
  node->module =
      static_cast<uint32_t>(FindModuleId(exact ? address : address - 1)) | (exact ? kNodeExact : 0);
  node->address = address;  // last: a node without an address is one that is being made
  return Insert(levels_[top], hash, parent, pc, id);
}

}  // namespace ollamatrace
