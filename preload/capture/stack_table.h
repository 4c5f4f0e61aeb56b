#ifndef OLLAMATRACE_PRELOAD_CAPTURE_STACK_TABLE_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_STACK_TABLE_H_

// Turns call stacks into ids. A stack is the node of its innermost frame in a tree; every node is
// stored once, in the journal, where it survives a kill; the index that finds it is private memory.
//
// New code at an old address gets nodes of its own: those of an unloaded module are not found any
// more (modules.h).
//
// Lock-free: nodes are only added, by compare-and-swap on the first free word of a line. No system
// call but one for each 4096 new nodes (the reservation of their space).

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/journal_layout.h"
#include "preload/capture/modules.h"
#include "preload/capture/unwinder.h"
#include "preload/journal/journal.h"

namespace ollamatrace {

using capture::kExactPc;

// A cache line of words, each an id below 42 bits of its hash; 0: none. The lower bits of the hash
// say which line, and in which place of it to look first.
struct alignas(64) StackIdLine {
  static constexpr uint32_t kWords = 8;
  std::atomic<uint64_t> words[kWords];
};
inline constexpr uint64_t kStackIdMask = kMaxNodes - 1;
static_assert((kMaxNodes & kStackIdMask) == 0);

// A thread's last stack, outermost frame first. Zeros are a valid, empty memo.
struct StackMemo {
  uint32_t generation;
  uint32_t depth;                   // frames whose hash is known
  bool known;                       // it was in the table before
  uint64_t hashes[kMaxStackDepth];  // of the stack that ends at this frame
};

class StackTable {
 public:
  // Bytes of private memory that Init wants, touched as stacks come: about 16 a node.
  static size_t Bytes();
  // Places for 65 536 stacks that were seen; where few stacks are asked for, 2048 serve as well, in
  // fewer pages.
  static constexpr uint32_t kSeenLines = 1u << 13;
  static constexpr uint32_t kFewSeenLines = 1u << 8;
  // `memory` is zeroed, Bytes() long.
  void Init(Journal* journal, void* memory, uint32_t seen_lines = kSeenLines);

  // The id of the stack pcs[0, depth), innermost first. The `unchanged` outermost frames are those
  // that this memo saw last time. Frames that find no room (the table is full) are left out at the
  // inner end; `*complete` tells.
  StackId Intern(StackMemo* memo, const uintptr_t* pcs, int depth, int unchanged, bool* complete);

  // A stack by a number that stands for it (capture::Fingerprint); 0 when it is not known, or
  // not any more: what was seen is remembered in a table that forgets. Two are taken for one when
  // 58 bits of their numbers agree.
  StackId Find(uint64_t fingerprint) const {
    const uint64_t word =
        SeenLine(fingerprint)->words[FirstPlace(fingerprint)].load(std::memory_order_acquire);
    if (__builtin_expect(((word ^ fingerprint) & ~kStackIdMask) == 0, 1)) {
      return StackId{static_cast<uint32_t>(word & kStackIdMask)};
    }
    return FindElsewhere(fingerprint);
  }
  void Remember(uint64_t fingerprint, StackId id);

 private:
  // All nodes, by the hash of the stack that ends there. A small level serves small programs
  // without touching much memory; each takes over when the one before is half full. Nodes are
  // looked for in all of them. What has the hash's 42 upper bits and lies where it would lie is the
  // node.
  struct Level {
    StackIdLine* lines = nullptr;
    uint32_t bits = 0;  // of the number of lines
    uint32_t from = 0;  // number of nodes at which it takes over

    StackIdLine* Line(uint64_t hash) const { return &lines[hash & ((uint64_t{1} << bits) - 1)]; }
  };
  static constexpr int kLevels = 3;

  // The module that the last frame of a stack was found in: most often it is the next one's, too.
  struct ModuleOfCode {
    ModuleId id{};
    CodeRange code;
  };

  StackIdLine* SeenLine(uint64_t hash) const { return &seen_[hash & seen_mask_]; }
  static uint32_t FirstPlace(uint64_t hash) {
    return static_cast<uint32_t>(hash / kSeenLines) % StackIdLine::kWords;
  }
  StackId FindElsewhere(uint64_t hash) const;
  uint32_t FindNode(uint64_t hash, int top) const;
  uint32_t AddNode(uint64_t hash, int top, uint32_t parent, uintptr_t pc, ModuleOfCode* module);
  uint32_t Insert(const Level& level, uint64_t hash, uint32_t id);

  Journal* journal_ = nullptr;
  StackIdLine* seen_ = nullptr;
  uint64_t seen_mask_ = 0;
  Level levels_[kLevels];
  std::atomic<int> top_{0};  // the level to which nodes are added now
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_STACK_TABLE_H_
