#ifndef OLLAMATRACE_PRELOAD_CAPTURE_STACK_TABLE_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_STACK_TABLE_H_

// Turns call stacks into ids. A stack is the node of its innermost frame in a tree; every node is
// stored once, in the journal, where it survives a kill; the index that finds it is private memory.
//
// New code at an old address gets nodes of its own: those of an unloaded module are not found any
// more (modules.h).
//
// Lock-free: nodes are only added, by compare-and-swap on the head of a hash chain. No system call
// but one for each 4096 new nodes (the reservation of their space).

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/capture/unwinder.h"
#include "preload/journal/journal.h"

namespace ollamatrace {

using capture::kExactPc;

// What stacks were seen with: a cache line of words, each an id below 42 bits of its hash; 0: none.
// The lower bits of the hash say which line and which place of it comes first. So two stacks are
// taken for one when 57 bits of their hashes agree.
inline constexpr uint32_t kSeenLineBits = 15;
inline constexpr uint64_t kIdMask = kMaxNodes - 1;
static_assert((kMaxNodes & kIdMask) == 0);
struct alignas(64) SeenLine {
  static constexpr int kWords = 8;
  std::atomic<uint64_t> words[kWords];
};

// A thread's last stack, outermost frame first. Zeros are a valid, empty memo.
struct StackMemo {
  uint32_t generation;
  uint32_t depth;                   // frames whose hash is known
  uint64_t hashes[kMaxStackDepth];  // of the stack that ends at this frame
};

// Bytes of private memory, touched as stacks come: up to 24 MiB for 4 M nodes.
size_t StackTableBytes();

class StackTable {
 public:
  // `memory` is zeroed, StackTableBytes long.
  void Init(Journal* journal, void* memory);

  // The id of the stack pcs[0, depth), innermost first. The `unchanged` outermost frames are those
  // that this memo saw last time. Frames that find no room (the table is full) are left out at the
  // inner end; `*complete` tells.
  StackId Intern(StackMemo* memo, const uintptr_t* pcs, int depth, int unchanged, bool* complete);

  // A stack by a number that stands for it (capture::FindFingerprint); 0 when it is not known, or
  // not any more.
  StackId Find(uint64_t fingerprint) const {
    const uint64_t word =
        LineOf(fingerprint)->words[FirstPlace(fingerprint)].load(std::memory_order_acquire);
    if (__builtin_expect(((word ^ fingerprint) & ~kIdMask) == 0, 1)) {
      return StackId{static_cast<uint32_t>(word & kIdMask)};
    }
    return FindElsewhere(fingerprint);
  }
  void Remember(uint64_t fingerprint, StackId id);

 private:
  SeenLine* LineOf(uint64_t hash) const {
    return &seen_[hash & ((uint64_t{1} << kSeenLineBits) - 1)];
  }
  static uint32_t FirstPlace(uint64_t hash) {
    return static_cast<uint32_t>(hash >> kSeenLineBits) % SeenLine::kWords;
  }
  StackId FindElsewhere(uint64_t hash) const;
  uint32_t FindOrAdd(uint32_t parent, uintptr_t pc);

  // Chains of nodes. A small table serves small programs without touching much memory; each level
  // takes over when the one before has two nodes a chain. Nodes are looked for in all of them.
  struct Level {
    std::atomic<uint32_t>* heads = nullptr;
    uint32_t bits = 0;
    uint32_t from = 0;  // number of nodes at which it takes over
  };
  static constexpr int kLevels = 3;

  Journal* journal_ = nullptr;
  SeenLine* seen_ = nullptr;
  Level levels_[kLevels];
  uint32_t* next_ = nullptr;  // by id
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_STACK_TABLE_H_
