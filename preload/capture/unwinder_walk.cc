#include "preload/capture/unwinder_walk.h"

#include "preload/capture/unwinder_modules.h"

namespace ollamatrace::capture {
namespace {

constexpr uintptr_t kMaxStackGrowth = uintptr_t{256} << 10;  // between walks; else it's a new stack
constexpr uintptr_t kMaxSignalFrameBytes = uintptr_t{64} << 10;  // AMX state is 11 KiB

uintptr_t Word(uintptr_t address) { return *reinterpret_cast<const uintptr_t*>(address); }

// The registers that a walk knows, at one frame.
struct Position {
  uintptr_t pc;
  uintptr_t sp;
  uintptr_t bp;
  bool exact;    // pc was interrupted: not a return address
  bool guessed;  // found by a frame pointer, without CFI
};

enum class Step { kDone, kOtherStack, kEnd, kBroken };

// Collects the words that steps read, so that a later walk can tell whether they still hold.
class CheckWriter {
 public:
  explicit CheckWriter(Check* out) : next_(out) {}
  void Add(uintptr_t address, uintptr_t value) {
    next_->address = reinterpret_cast<const uintptr_t*>(address);
    next_->value = value;
    ++next_;
  }
  Check* next() const { return next_; }
  void Rewind(Check* to) { next_ = to; }

 private:
  Check* next_;
};

class NoChecks {
 public:
  explicit NoChecks(Check*) {}
  void Add(uintptr_t, uintptr_t) {}
  Check* next() const { return nullptr; }
  void Rewind(Check*) {}
};

template <typename Checks>
inline bool Load(uintptr_t address, uintptr_t reach, StackBounds* bounds, Checks* checks,
                 uintptr_t* value) {
  if (__builtin_expect(!bounds->Holds(address), 0) && !ExtendStack(bounds, address, reach)) {
    return false;
  }
  *value = Word(address);
  checks->Add(address, *value);
  return true;
}

// The stacks of one walk: the one it is on, and those that it may meet further out.
class StackList {
 public:
  StackList(StackBounds* stacks, uint32_t count) : stacks_(stacks), count_(count) {}

  StackBounds* current() { return &stacks_[index_]; }
  bool first() const { return index_ == 0; }
  uint32_t met() const { return index_ + 1; }

  // The stack that the walk starts on; false when it is not the one that the last walk started on.
  bool Start(uintptr_t sp) {
    for (uint32_t i = 0; i < count_; ++i) {
      if (sp - 8 < stacks_[i].low || sp - 8 >= stacks_[i].high) continue;
      const StackBounds found = stacks_[i];
      stacks_[i] = stacks_[0];
      stacks_[0] = found;
      return i == 0;
    }
    if (count_ == 0) stacks_[0] = StackBounds();
    if (EnterStack(&stacks_[0], sp)) return true;
    count_ = 1;
    return false;
  }

  // Goes on to the stack that holds `address`. False when it cannot be read, or after too many.
  bool Switch(uintptr_t address) {
    if (index_ + 1 == kMaxStacks) return false;
    const uint32_t next = index_ + 1;
    for (uint32_t i = next; i < count_; ++i) {
      if (!stacks_[i].Holds(address)) continue;
      const StackBounds found = stacks_[i];
      stacks_[i] = stacks_[next];
      stacks_[next] = found;
      index_ = next;
      return true;
    }
    stacks_[next] = StackBounds();
    EnterStack(&stacks_[next], address + 8);
    if (!stacks_[next].Holds(address)) return false;
    index_ = next;
    count_ = next + 1;
    return true;
  }

 private:
  StackBounds* const stacks_;
  uint32_t count_;
  uint32_t index_ = 0;
};

// From the frame that `rule` belongs to, to its caller's. `bounds` are those of the current stack.
template <typename Checks>
inline __attribute__((always_inline)) Step StepByCfi(UnwindRule rule, Position* position,
                                                     StackBounds* bounds, Checks* checks) {
  uintptr_t cfa;
  const auto offset = static_cast<uintptr_t>(intptr_t{rule.cfa_offset});
  if (rule.cfa_kind == UnwindRule::kSp) {
    cfa = position->sp + offset;
  } else if (rule.cfa_kind == UnwindRule::kBp) {
    cfa = position->bp + offset;
  } else if (!Load(position->bp + offset, kMaxFrameBytes, bounds, checks, &cfa)) {
    return Step::kBroken;
  }
  if (cfa <= position->sp) return Step::kBroken;
  uintptr_t pc;
  if (!Load(cfa - 8, kMaxFrameBytes, bounds, checks, &pc)) return Step::kBroken;
  if (rule.bp_kind() != UnwindRule::kBpSame) {
    const uintptr_t base = rule.bp_kind() == UnwindRule::kBpAtCfa  ? cfa
                           : rule.bp_kind() == UnwindRule::kBpAtSp ? position->sp
                                                                   : position->bp;
    const uintptr_t slot = base + static_cast<uintptr_t>(intptr_t{rule.bp_words} * 8);
    if (!Load(slot, kMaxFrameBytes, bounds, checks, &position->bp)) return Step::kBroken;
  }
  position->pc = pc;
  position->sp = cfa;
  position->exact = false;
  position->guessed = false;
  return Step::kDone;
}

template <typename Checks>
Step StepOverSignal(UnwindRule rule, Position* position, StackList* stacks, Checks* checks) {
  StackBounds* bounds = stacks->current();
  const uintptr_t sp_slot = position->sp + static_cast<uintptr_t>(intptr_t{rule.cfa_offset});
  const uintptr_t bp_slot = position->sp + static_cast<uintptr_t>(intptr_t{rule.bp_words} * 8);
  uintptr_t sp;
  uintptr_t pc;
  uintptr_t bp;
  if (!Load(sp_slot, kMaxSignalFrameBytes, bounds, checks, &sp) ||
      !Load(sp_slot + 8, kMaxSignalFrameBytes, bounds, checks, &pc) ||
      !Load(bp_slot, kMaxSignalFrameBytes, bounds, checks, &bp) || (sp & 7) != 0) {
    return Step::kBroken;
  }
  // On the same stack, the kernel put the frame right below what was interrupted.
  const bool same_stack = sp > position->sp && sp - position->sp <= kMaxSignalFrameBytes &&
                          (bounds->Holds(sp) || ExtendStack(bounds, sp, kMaxSignalFrameBytes));
  if (!same_stack && !stacks->Switch(sp)) return Step::kBroken;
  *position = {pc, sp, bp, true, false};
  return same_stack ? Step::kDone : Step::kOtherStack;
}

// A frame record: the caller's frame pointer, then the return address. Go's frames look so on both
// sides of a call to C, whose frames lie on another stack: the first one above them still holds the
// frame pointer of the goroutine.
template <typename Checks>
Step StepByFramePointer(Position* position, StackList* stacks, Checks* checks) {
  const uintptr_t record = position->bp;
  if ((record & 7) != 0 || record < kPageBytes || record >= kAddressLimit) return Step::kEnd;
  StackBounds* bounds = stacks->current();
  bool same_stack =
      record >= position->sp && record - position->sp <= kMaxGuessedFrameBytes &&
      (bounds->Holds(record + 8) || ExtendStack(bounds, record + 8, kMaxGuessedFrameBytes));
  if (!same_stack) {
    // Further in on the same stack: a stale frame pointer.
    if (record >= bounds->low && record < position->sp) return Step::kEnd;
    if (!stacks->Switch(record)) return Step::kEnd;
    bounds = stacks->current();
  }
  uintptr_t bp;
  uintptr_t pc;
  if (!Load(record, kMaxGuessedFrameBytes, bounds, checks, &bp) ||
      !Load(record + 8, kMaxGuessedFrameBytes, bounds, checks, &pc)) {
    return Step::kBroken;
  }
#if defined(__aarch64__)
  pc &= kAddressLimit - 1;  // pointer authentication code
#endif
  *position = {pc, record + 16, bp, false, true};
  return same_stack ? Step::kDone : Step::kOtherStack;
}

inline UnwindRule RuleFor(const Position& position, uint32_t generation, RuleWorkspace* workspace) {
  const uintptr_t address = LookupAddress(position.pc, position.exact);
  UnwindRule rule;
  if (__builtin_expect(FindRule(address, generation, &rule), 1)) return rule;
  return WorkOutRule(address, position.exact, generation, workspace);
}

}  // namespace

__attribute__((noinline)) bool EnterStack(StackBounds* bounds, uintptr_t sp) {
  const uintptr_t page = PageOf(sp - 8);
  if (page >= bounds->low && page < bounds->high) return true;
  if (page < bounds->low && bounds->low - page <= kMaxStackGrowth &&
      ReadableUpTo(page, bounds->low) == bounds->low) {
    bounds->low = page;
    return true;
  }
  bounds->low = page;
  bounds->high = ReadableUpTo(page, page + kPageBytes);
  return false;
}

__attribute__((noinline)) bool ExtendStack(StackBounds* bounds, uintptr_t address,
                                           uintptr_t reach) {
  if ((address & 7) != 0 || address < bounds->high || address - bounds->high > reach) return false;
  bounds->high = ReadableUpTo(bounds->high, address + 8);
  return address < bounds->high;
}

UnwindResult WalkByRules(ThreadUnwindCache* cache, const CallerFrame& start, uintptr_t* pcs,
                         int max, bool frame_pointers_only) {
  StackBounds own_stacks[kMaxStacks];
  RuleWorkspace* workspace = cache != nullptr ? &cache->workspace : nullptr;
  StackList stacks(cache != nullptr ? cache->stacks : own_stacks,
                   cache != nullptr ? cache->stack_count : 0);
  const uint32_t generation = ModuleGeneration();
  Position position = {start.pc, start.sp, start.frame_pointer, false, false};
  NoChecks checks(nullptr);
  int depth = 0;
  stacks.Start(start.sp);
  for (;;) {
    UnwindRule rule = RuleFor(position, generation, workspace);
    if (rule.cfa_kind == UnwindRule::kNotCode) break;
    if (position.guessed && !rule.after_call()) break;
    if (!rule.hidden()) pcs[depth++] = position.pc;
    if (depth == max) break;
    if (frame_pointers_only) rule.cfa_kind = UnwindRule::kFramePointer;
    Step step = Step::kEnd;
    if (rule.cfa_kind <= UnwindRule::kLoadBp && rule.cfa_kind >= UnwindRule::kSp) {
      step = StepByCfi(rule, &position, stacks.current(), &checks);
    } else if (rule.cfa_kind == UnwindRule::kSignal) {
      step = StepOverSignal(rule, &position, &stacks, &checks);
    } else if (rule.cfa_kind == UnwindRule::kFramePointer) {
      step = StepByFramePointer(&position, &stacks, &checks);
    }
    if (step != Step::kDone && step != Step::kOtherStack) break;
  }
  if (cache != nullptr) cache->stack_count = stacks.met();
  if (depth == 0) pcs[depth++] = start.pc;
  return {depth, 0};
}

}  // namespace ollamatrace::capture
