#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_RULES_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_RULES_H_

// The rule of each program counter that was ever met: one table for the process, of fixed size,
// without locks. A rule is found in one cache line; what is not there is worked out from the
// module's CFI (about a microsecond) and left there for everyone.

#include <atomic>
#include <cstdint>

#include "preload/capture/cfi_rule.h"
#include "preload/capture/stack_region.h"
#include "preload/capture/unwinder_modules.h"

namespace ollamatrace::capture {

// Code addresses are looked up one byte early when they are return addresses: a call may be its
// function's last instruction.
inline uintptr_t LookupAddress(uintptr_t pc, bool exact) { return pc - (exact ? 0 : 1); }

// One cache line. A reader takes what it found only if `sequence` was even and the same before and
// after; a writer that finds another one at work goes away. So a bucket whose writer died (in the
// parent of a fork, say) only ever misses.
struct alignas(64) RuleBucket {
  static constexpr int kEntries = 3;

  std::atomic<uint32_t> sequence;
  std::atomic<uint32_t> next;  // the entry that the next rule replaces
  // Address << 16 | module generation. 0 is no key: generations are never 0.
  std::atomic<uint64_t> keys[kEntries];
  std::atomic<uint64_t> rules[kEntries];
};
static_assert(sizeof(RuleBucket) == 64);

inline constexpr int kRuleBucketBits = 13;
inline constexpr uintptr_t kAddressLimit = uintptr_t{1}
                                           << 47;        // of user space; also what a key holds
extern RuleBucket g_rule_buckets[1 << kRuleBucketBits];  // 512 KiB, touched as it fills

inline RuleBucket& RuleBucketOf(uintptr_t address) {
  return g_rule_buckets[(address * 0x9e3779b97f4a7c15u) >> (64 - kRuleBucketBits)];
}

inline UnwindRule RuleFromWord(uint64_t word) { return __builtin_bit_cast(UnwindRule, word); }

// The remembered rule of a lookup address under `generation`. False when there is none.
inline bool FindRule(uintptr_t address, uint32_t generation, UnwindRule* rule) {
  RuleBucket& bucket = RuleBucketOf(address);
  const uint64_t key = uint64_t{address} << 16 | generation;
  const uint32_t sequence = bucket.sequence.load(std::memory_order_acquire);
  for (int i = 0; i < RuleBucket::kEntries; ++i) {
    if (bucket.keys[i].load(std::memory_order_relaxed) != key) continue;
    const uint64_t word = bucket.rules[i].load(std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_acquire);
    *rule = RuleFromWord(word);
    return (sequence & 1) == 0 && bucket.sequence.load(std::memory_order_relaxed) == sequence;
  }
  return false;
}

// What working out a rule needs besides a small stack.
struct RuleWorkspace {
  static constexpr int kCodeRegions = 4;

  FrameInfo info;
  CfiRows rows;
  // Executable memory in no module (JIT) that was met last, under `generation`.
  MemoryRegion code[kCodeRegions];
  uint32_t code_generation;
  uint32_t next_code;
};

// Makes rows->row the row in force at `pc` in the module that `tables` are of: by .eh_frame, or by
// .debug_frame where that is all there is. False when neither knows.
bool FindCfiRow(const ModuleTables& tables, uintptr_t pc, FrameInfo* info, CfiRows* rows);

// Works the rule out and remembers it. `exact`: `address` is the program counter itself, not the
// byte before a return address. `workspace` may be null: then it lies on the stack.
UnwindRule WorkOutRule(uintptr_t address, bool exact, uint32_t generation,
                       RuleWorkspace* workspace);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_RULES_H_
