#include "preload/capture/stack_table.h"

#include "preload/base/sys.h"

namespace ollamatrace {
namespace {

constexpr uint32_t kLevelBits[] = {11, 15, 19};
constexpr uint64_t kHashFactor = UINT64_C(0x9E3779B97F4A7C15);
// Lines that a node may be from where it belongs. Beyond: as if the table was full.
constexpr uint32_t kMaxLines = 64;
// Frames whose lines are asked for before they are looked at.
constexpr uint32_t kLookedAhead = 6;

// The product's lower bits hear little of the upper ones.
uint64_t Mixed(uint64_t hash) { return hash ^ hash >> 29; }

}  // namespace

size_t StackTable::Bytes() {
  size_t lines = kSeenLines;
  for (const uint32_t bits : kLevelBits) lines += size_t{1} << bits;
  return lines * sizeof(StackIdLine);
}

void StackTable::Init(Journal* journal, void* memory, uint32_t seen_lines) {
  journal_ = journal;
  seen_ = static_cast<StackIdLine*>(memory);
  seen_mask_ = seen_lines - 1;
  top_.store(0, std::memory_order_relaxed);
  StackIdLine* lines = seen_ + kSeenLines;
  uint32_t from = 0;
  for (int i = 0; i < kLevels; ++i) {
    levels_[i] = {lines, kLevelBits[i], from};
    lines += size_t{1} << kLevelBits[i];
    from += StackIdLine::kWords / 2 << kLevelBits[i];
  }
  // A few stacks touch all pages of the first level. One by one, that would be two faults each, to
  // look and to write. Kernels before 5.14 answer EINVAL.
  constexpr int kPopulateWrite = 23;  // MADV_POPULATE_WRITE
  sys::Madvise(levels_[0].lines, sizeof(StackIdLine) << kLevelBits[0], kPopulateWrite);
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
  uint64_t hash = same == 0 ? kHashFactor : memo->hashes[same - 1];
  for (uint32_t i = same; i < wanted; ++i) {
    // New code at an old address is another frame.
    const uintptr_t pc = pcs[wanted - 1 - i];
    hash = ((hash << 23 | hash >> 41) ^ pc ^ uint64_t{TimesUnloaded(pc & ~kExactPc)} << 48) *
           kHashFactor;
    memo->hashes[i] = hash;
  }
  memo->depth = wanted;
  const int top = top_.load(std::memory_order_relaxed);
  uint32_t id = FindNode(Mixed(hash), top);
  memo->known = id != 0;
  if (id == 0) {
    // The longest outer part that is known, most often by a few frames shorter; then what is new.
    uint32_t from = wanted - 1;
    for (uint32_t i = from; i > 0 && i + kLookedAhead > from; --i) {
      for (int level = top; level >= 0; --level) {
        __builtin_prefetch(levels_[level].Line(Mixed(memo->hashes[i - 1])));
      }
    }
    for (; from > 0; --from) {
      id = FindNode(Mixed(memo->hashes[from - 1]), top);
      if (id != 0) break;
    }
    ModuleOfCode module;
    for (; from < wanted; ++from) {
      const uint32_t next =
          AddNode(Mixed(memo->hashes[from]), top, id, pcs[wanted - 1 - from], &module);
      if (next == 0) break;
      id = next;
    }
    *complete = from == wanted;
  }
  memo->generation = generation;
  return StackId{id};
}

uint32_t StackTable::FindNode(uint64_t hash, int top) const {
  // Most nodes are in the largest level; the others are on their way meanwhile.
  for (int level = 0; level < top; ++level) __builtin_prefetch(levels_[level].Line(hash));
  for (int level = top; level >= 0; --level) {
    for (uint32_t i = 0; i < kMaxLines; ++i) {
      uint64_t word = 0;
      for (const std::atomic<uint64_t>& place : levels_[level].Line(hash + i)->words) {
        word = place.load(std::memory_order_acquire);
        if (((word ^ hash) & ~kStackIdMask) == 0 && word != 0) {
          return static_cast<uint32_t>(word & kStackIdMask);
        }
      }
      if (word == 0) break;  // a line with a free word is the last one
    }
  }
  return 0;
}

// Puts `id`, whose node is complete, where it belongs, unless the same node is there already.
// Answers the id that holds from now on; 0 when there is no room.
uint32_t StackTable::Insert(const Level& level, uint64_t hash, uint32_t id) {
  for (uint32_t i = 0; i < kMaxLines; ++i) {
    for (std::atomic<uint64_t>& place : level.Line(hash + i)->words) {
      uint64_t word = place.load(std::memory_order_acquire);
      if (word == 0 &&
          place.compare_exchange_strong(word, (hash & ~kStackIdMask) | id,
                                        std::memory_order_acq_rel, std::memory_order_acquire)) {
        return id;
      }
      // Others came first; perhaps with this very frame. Then ours stays unused.
      if (((word ^ hash) & ~kStackIdMask) == 0) return static_cast<uint32_t>(word & kStackIdMask);
    }
  }
  return 0;
}

uint32_t StackTable::AddNode(uint64_t hash, int top, uint32_t parent, uintptr_t pc,
                             ModuleOfCode* module) {
  std::atomic<uint32_t>* const next = &journal_->header()->next_node;
  if (next->load(std::memory_order_relaxed) >= kMaxNodes) return 0;
  const uint32_t id = next->fetch_add(1, std::memory_order_relaxed);
  if (id >= kMaxNodes) {
    next->store(kMaxNodes, std::memory_order_relaxed);
    return 0;
  }
  if (__builtin_expect(top + 1 < kLevels && id >= levels_[top + 1].from, 0)) {
    int known = top_.load(std::memory_order_relaxed);
    while (known <= top && !top_.compare_exchange_weak(known, top + 1, std::memory_order_relaxed)) {
    }
  }
  StackNode* node = journal_->node(id);
  if (!ReserveJournal(journal_, reinterpret_cast<uint8_t*>(node) - journal_->base,
                      sizeof(StackNode))) {
    return 0;
  }
  const bool exact = (pc & kExactPc) != 0;
  const uintptr_t address = pc & ~kExactPc;
  const uintptr_t instruction = exact ? address : address - 1;
  if (!module->code.Holds(instruction)) module->id = FindModuleId(instruction, &module->code);
  node->parent = parent;
  node->module = static_cast<uint32_t>(module->id) | (exact ? kNodeExact : 0);
  node->address = address;  // last: a node without an address is one that is being made
  return Insert(levels_[top], hash, id);
}

}  // namespace ollamatrace
