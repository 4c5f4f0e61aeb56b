#include "preload/capture/unwinder_walk.h"

#include "preload/capture/unwinder_modules.h"

namespace ollamatrace::capture {
namespace {

constexpr uintptr_t kMaxStackGrowth = uintptr_t{256} << 10;  // between walks; else it's a new stack
constexpr uintptr_t kMaxSignalFrameBytes = uintptr_t{64} << 10;  // AMX state is 11 KiB

constexpr uintptr_t kNoFrame = ~uintptr_t{0};  // the stack pointer of a zone's sentinel

uintptr_t Word(uintptr_t address) { return *reinterpret_cast<const uintptr_t*>(address); }

// The registers that a walk knows, at one frame.
struct Position {
  uintptr_t pc;
  uintptr_t sp;
  uintptr_t bp;
  bool exact;    // pc was interrupted: not a return address
  bool guessed;  // found by a frame pointer, without CFI
};

// How a caller of Unwind sees it.
inline uintptr_t Reported(const Position& position) {
  return position.pc | (position.exact ? kExactPc : 0);
}

enum class Step { kDone, kOtherStack, kEnd, kBroken };

// Writes the frames of a walk, and the words that its steps read, into a zone.
class Recorder {
 public:
  explicit Recorder(FrameZone* zone)
      : zone_(zone),
        frame_(zone->frames + FrameZone::kFrameHeadroom),
        check_(zone->checks + FrameZone::kCheckHeadroom) {}

  void AddFrame(const Position& position, UnwindRule rule) {
    if (!Begin(rule.hidden())) return;
    const auto check = static_cast<uint32_t>(check_ - zone_->checks);
    *frame_++ = {Reported(position), position.sp,   position.bp,  check,
                 position.exact,     rule.hidden(), UsesBp(rule), LoadsBp(rule)};
  }
  void AddCheck(uintptr_t address, uintptr_t value) {
    check_->address = reinterpret_cast<const uintptr_t*>(address);
    check_->value = value;
    ++check_;
  }
  // A remembered frame, with the checks of its step.
  void Copy(const FrameZone& from, const Frame& frame) {
    if (Begin(frame.hidden)) {
      *frame_ = frame;
      frame_++->first_check = static_cast<uint32_t>(check_ - zone_->checks);
    }
    const Check* end = from.checks + (&frame)[1].first_check;
    for (const Check* c = from.checks + frame.first_check; c != end; ++c) *check_++ = *c;
  }

  // Nothing more is remembered: the stack is too deep, or goes on elsewhere.
  void Close() { closed_ = true; }
  bool closed() const { return closed_; }

  // Ends the record. When it isn't complete, what the last step read is left out. `determined`:
  // these words led the walk to where it ended, and nothing else did.
  void Finish(bool complete, bool determined) {
    if (closed_) complete = determined = false;
    if (!complete) check_ = last_step_;
    frame_->sp = kNoFrame;
    frame_->first_check = static_cast<uint32_t>(check_ - zone_->checks);
    zone_->begin = FrameZone::kFrameHeadroom;
    zone_->end = static_cast<uint32_t>(frame_ - zone_->frames);
    zone_->reported_end = closed_ ? 0 : zone_->end;
    zone_->complete = complete;
    zone_->determined = determined;
    zone_->any_hidden = any_hidden_;
  }
  bool any_hidden() const { return any_hidden_; }

  const Frame* frames_begin() const { return zone_->frames + FrameZone::kFrameHeadroom; }
  const Frame* frames_end() const { return frame_; }
  const Check* checks_begin() const { return zone_->checks + FrameZone::kCheckHeadroom; }
  const Check* checks_end() const { return check_; }

 private:
  static constexpr int kLastCheck = FrameZone::kChecks - FrameZone::kMaxChecksPerStep;

  static bool UsesBp(UnwindRule rule) {
    return (rule.cfa_kind != UnwindRule::kSp && rule.cfa_kind != UnwindRule::kSignal) ||
           rule.bp_kind() == UnwindRule::kBpAtBp;
  }
  static bool LoadsBp(UnwindRule rule) {
    return rule.bp_kind() != UnwindRule::kBpSame || rule.cfa_kind == UnwindRule::kFramePointer;
  }

  // False when there is no room for another frame and what its step reads.
  bool Begin(bool hidden) {
    if (frame_ == zone_->frames + FrameZone::kFrames || check_ > zone_->checks + kLastCheck) {
      Close();
    }
    if (closed_) {  // further checks go where they do no harm
      check_ = zone_->checks + kLastCheck;
      return false;
    }
    last_step_ = check_;
    any_hidden_ |= hidden;
    return true;
  }

  FrameZone* const zone_;
  Frame* frame_;
  Check* check_;
  Check* last_step_ = check_;
  bool closed_ = false;
  bool any_hidden_ = false;
};

// For walks that are not to be remembered.
class NoRecorder {
 public:
  void AddCheck(uintptr_t, uintptr_t) {}
};

template <typename Record>
inline bool Load(uintptr_t address, uintptr_t reach, StackBounds* bounds, Record* record,
                 uintptr_t* value) {
  if (__builtin_expect(!bounds->Holds(address), 0) && !ExtendStack(bounds, address, reach)) {
    return false;
  }
  *value = Word(address);
  record->AddCheck(address, *value);
  return true;
}

// The stacks of one walk: the one it is on, and those that it may meet further out.
class StackList {
 public:
  StackList(StackBounds* stacks, uint32_t count) : stacks_(stacks), count_(count) {}

  StackBounds* current() { return &stacks_[index_]; }

  // The stack that the walk starts on; false when it is not the one that the last walk started on.
  bool Start(uintptr_t sp) {
    bool known = false;
    for (uint32_t i = 0; i < count_ && !known; ++i) {
      if (sp - 8 < stacks_[i].low || sp - 8 >= stacks_[i].high) continue;
      if (i != 0) {
        Swap(0, i);
        count_ = 0;  // so that the stack counts as another one
      }
      known = true;
    }
    if (!known) known = EnterStack(&stacks_[0], sp);
    const bool same = known && count_ != 0;
    if (!same) count_ = 1;
    trusted_high_ = stacks_[0].high;
    return same;
  }

  // Goes on to the stack that holds `address`. False when it cannot be read, or after too many.
  bool Switch(uintptr_t address) {
    const uint32_t next = index_ + 1;
    if (next == kMaxStacks) return false;
    bool known = false;
    for (uint32_t i = next; i < count_ && !known; ++i) {
      if (!stacks_[i].Holds(address)) continue;
      Swap(next, i);
      known = true;
    }
    if (!known) {
      count_ = next;
      stacks_[next] = StackBounds();
      EnterStack(&stacks_[next], address + 8);
      if (!stacks_[next].Holds(address)) return false;
      count_ = next + 1;
    }
    index_ = next;
    trusted_high_ = stacks_[next].high;
    return true;
  }

  // Ends the walk; answers how many stacks are known. What was looked at on a guess that led
  // nowhere is forgotten: nobody says that it stays mapped. The outermost good frame is on stack
  // `good_index`, at `good_sp`.
  uint32_t Finish(bool led_nowhere, uint32_t good_index, uintptr_t good_sp) {
    if (!led_nowhere) return index_ + 1;
    StackBounds& stack = stacks_[good_index];
    const uintptr_t needed = PageOf(good_sp - 8) + kPageBytes;
    const uintptr_t trusted =
        good_index == index_ && trusted_high_ > needed ? trusted_high_ : needed;
    if (stack.high > trusted) stack.high = trusted;
    return good_index + 1;
  }
  uint32_t index() const { return index_; }

 private:
  void Swap(uint32_t a, uint32_t b) {
    const StackBounds held = stacks_[a];
    stacks_[a] = stacks_[b];
    stacks_[b] = held;
  }

  StackBounds* const stacks_;
  uint32_t count_;
  uint32_t index_ = 0;
  uintptr_t trusted_high_ = 0;  // of the current stack, before this walk
};

// From the frame that `rule` belongs to, to its caller's. `bounds` are those of the current stack.
template <typename Record>
inline __attribute__((always_inline)) Step StepByCfi(UnwindRule rule, Position* position,
                                                     StackBounds* bounds, Record* record) {
  uintptr_t cfa;
  const auto offset = static_cast<uintptr_t>(intptr_t{rule.cfa_offset});
  if (rule.cfa_kind == UnwindRule::kSp) {
    cfa = position->sp + offset;
  } else if (rule.cfa_kind == UnwindRule::kBp) {
    cfa = position->bp + offset;
  } else if (!Load(position->bp + offset, kMaxFrameBytes, bounds, record, &cfa)) {
    return Step::kBroken;
  }
  if (cfa <= position->sp) return Step::kBroken;
  uintptr_t pc;
  if (!Load(cfa - 8, kMaxFrameBytes, bounds, record, &pc)) return Step::kBroken;
  if (rule.bp_kind() != UnwindRule::kBpSame) {
    const uintptr_t base = rule.bp_kind() == UnwindRule::kBpAtCfa  ? cfa
                           : rule.bp_kind() == UnwindRule::kBpAtSp ? position->sp
                                                                   : position->bp;
    const uintptr_t slot = base + static_cast<uintptr_t>(intptr_t{rule.bp_words} * 8);
    if (!Load(slot, kMaxFrameBytes, bounds, record, &position->bp)) return Step::kBroken;
  }
  position->pc = pc;
  position->sp = cfa;
  position->exact = false;
  position->guessed = false;
  return Step::kDone;
}

template <typename Record>
Step StepOverSignal(UnwindRule rule, Position* position, StackList* stacks, Record* record) {
  StackBounds* bounds = stacks->current();
  const uintptr_t sp_slot = position->sp + static_cast<uintptr_t>(intptr_t{rule.cfa_offset});
  const uintptr_t bp_slot = position->sp + static_cast<uintptr_t>(intptr_t{rule.bp_words} * 8);
  uintptr_t sp;
  uintptr_t pc;
  uintptr_t bp;
  if (!Load(sp_slot, kMaxSignalFrameBytes, bounds, record, &sp) ||
      !Load(sp_slot + 8, kMaxSignalFrameBytes, bounds, record, &pc) ||
      !Load(bp_slot, kMaxSignalFrameBytes, bounds, record, &bp) || (sp & 7) != 0) {
    return Step::kBroken;
  }
  // On the same stack, the kernel put the frame right below what was interrupted.
  const bool same_stack = sp > position->sp && sp - position->sp <= kMaxSignalFrameBytes &&
                          (bounds->Holds(sp) || ExtendStack(bounds, sp, kMaxSignalFrameBytes));
  if (!same_stack && !stacks->Switch(sp)) return Step::kBroken;
  *position = {pc, sp, bp, true, false};
  return same_stack ? Step::kDone : Step::kOtherStack;
}

// A pair on the stack: the caller's frame pointer, then the return address. Go's frames look so on
// both sides of a call to C, whose frames lie on another stack: the first one above them still
// holds the frame pointer of the goroutine. Only in a Go that is known so: `may_switch`.
template <typename Record>
Step StepByFramePointer(bool may_switch, Position* position, StackList* stacks, Record* record) {
  uintptr_t pair = position->bp;
  if ((pair & 7) != 0 || pair < kPageBytes || pair >= kAddressLimit) return Step::kEnd;
  StackBounds* bounds = stacks->current();
  bool same_stack =
      pair >= position->sp && pair - position->sp <= kMaxGuessedFrameBytes &&
      (bounds->Holds(pair + 8) || ExtendStack(bounds, pair + 8, kMaxGuessedFrameBytes));
  if (!same_stack) {
    // Further in on the same stack: a stale frame pointer.
    if (pair >= bounds->low && pair < position->sp) return Step::kEnd;
    if (!may_switch || !stacks->Switch(pair)) return Step::kEnd;
    bounds = stacks->current();
  }
  uintptr_t bp;
  uintptr_t pc;
  if (!Load(pair + 8, kMaxGuessedFrameBytes, bounds, record, &pc) ||
      !Load(pair, kMaxGuessedFrameBytes, bounds, record, &bp)) {
    return Step::kBroken;
  }
  if (bp == pair + 8) {
    // Two pairs that overlap: crosscall2, since Go 1.22, pushes the frame pointer twice.
    pair = bp;
    bp = pc;
    if (!Load(pair + 8, kMaxGuessedFrameBytes, bounds, record, &pc)) return Step::kBroken;
    record->AddCheck(pair, bp);  // the frame pointer is the last word of each step
  }
#if defined(__aarch64__)
  pc &= kAddressLimit - 1;  // pointer authentication code
#endif
  *position = {pc, pair + 16, bp, false, true};
  return same_stack ? Step::kDone : Step::kOtherStack;
}

inline UnwindRule RuleFor(const Position& position, uint32_t generation, RuleWorkspace* workspace) {
  const uintptr_t address = LookupAddress(position.pc, position.exact);
  UnwindRule rule;
  if (__builtin_expect(FindRule(address, generation, &rule), 1)) return rule;
  return WorkOutRule(address, position.exact, generation, workspace);
}

bool SameFrame(const Frame& frame, const Position& position) {
  return frame.sp == position.sp && frame.pc == Reported(position) && frame.bp == position.bp &&
         frame.exact == position.exact;
}

// The first of the zone's checks from which on all words are what they were. Those below `sp` are
// no part of a stack any more. What changes is nearly always further in than what doesn't.
uint32_t FirstHolding(const FrameZone& zone, uintptr_t sp) {
  const Check* const begin = zone.checks + zone.frames[zone.begin].first_check;
  const Check* check = zone.checks + zone.frames[zone.end].first_check;
  const auto below = [sp](const Check& c) {  // the top bit
    return reinterpret_cast<uintptr_t>(c.address) - sp;
  };
  constexpr uintptr_t kTop = uintptr_t{1} << 63;
  // Four at a time without a branch: they nearly always hold.
  while (check - begin >= 4 &&
         ((below(check[-1]) | below(check[-2]) | below(check[-3]) | below(check[-4])) & kTop) ==
             0 &&
         ((*check[-1].address ^ check[-1].value) | (*check[-2].address ^ check[-2].value) |
          (*check[-3].address ^ check[-3].value) | (*check[-4].address ^ check[-4].value)) == 0) {
    check -= 4;
  }
  while (check != begin && (below(check[-1]) & kTop) == 0 &&
         *check[-1].address == check[-1].value) {
    --check;
  }
  return static_cast<uint32_t>(check - zone.checks);
}

void Forget(FrameZone* zone) {
  zone->begin = 0;
  zone->end = 0;
  zone->frames[0].sp = kNoFrame;
  zone->frames[0].first_check = 0;
}

// Puts what was recorded in front of `kept`, a remembered frame of `zone`. False when there is no
// room.
bool Prepend(const Recorder& record, FrameZone* zone, Frame* kept) {
  const auto frames = static_cast<size_t>(record.frames_end() - record.frames_begin());
  const auto checks = static_cast<uint32_t>(record.checks_end() - record.checks_begin());
  if (record.closed() || static_cast<size_t>(kept - zone->frames) < frames ||
      kept->first_check < checks) {
    return false;
  }
  const uint32_t first_check = kept->first_check - checks;
  for (uint32_t i = 0; i < checks; ++i) {
    zone->checks[first_check + i] = record.checks_begin()[i];
  }
  Frame* const first = kept - frames;
  for (size_t i = 0; i < frames; ++i) {
    first[i] = record.frames_begin()[i];
    first[i].first_check += first_check - FrameZone::kCheckHeadroom;
  }
  zone->begin = static_cast<uint32_t>(first - zone->frames);
  zone->any_hidden |= record.any_hidden();
  return true;
}

// One walk that remembers. The thread's last stack is walked along.
class RememberingWalk {
 public:
  RememberingWalk(ThreadUnwindCache* cache, bool same_stack, uintptr_t sp)
      : cache_(cache), zone_(&cache->zones[cache->zone]), record_(&cache->zones[cache->zone ^ 1]) {
    if (!same_stack) Forget(zone_);
    old_ = zone_->frames + zone_->begin;
    holding_ = FirstHolding(*zone_, sp);
  }

  Recorder* record() { return &record_; }
  void AddFrame(const Position& position, UnwindRule rule) { record_.AddFrame(position, rule); }
  void Close() { record_.Close(); }

  // Whether `position` is a frame of the last stack, and all that its step and those further out
  // read then is there still. To be called at each frame.
  bool Meets(const Position& position) {
    while (old_->sp < position.sp) ++old_;
    return old_->first_check >= holding_ && SameFrame(*old_, position);
  }

  // There. True: the rest of that stack has been taken over, and the walk is done. False: it isn't
  // known to where this one goes (it was cut, and may not be now): its frames were taken over, and
  // the walk goes on at the last of them, at `position`, unless *depth is max.
  bool Follow(Position* position, uintptr_t* pcs, int max, int* depth, int* unchanged) {
    Frame* const end = zone_->frames + zone_->end;
    if (zone_->complete || end - old_ >= max - *depth) {
      const int before = *depth;
      const Frame* frame = ReportUpTo(end, pcs, max, depth);
      if (frame == end && !zone_->complete && *depth < max) {  // there were hidden ones
        *depth = before;
      } else {
        const auto reported_end = static_cast<uint32_t>(frame - zone_->frames);
        *unchanged = reported_end == zone_->reported_end ? *depth - before : 0;
        zone_->reported_end = reported_end;
        TakeOver(end);
        return true;
      }
    }
    for (; old_ != end - 1 && *depth < max; ++old_) {
      pcs[*depth] = old_->pc;
      *depth += old_->hidden ? 0 : 1;
      record_.Copy(*zone_, *old_);
    }
    *position = {old_->pc & ~kExactPc, old_->sp, old_->bp, old_->exact, false};
    ++old_;
    return false;
  }

  void Finish(bool complete, bool determined) {
    record_.Finish(complete, determined);
    cache_->zone ^= 1;
  }

 private:
  // Reports the frames from old_ to `end`, or as many as there is room for; answers where it
  // stopped.
  const Frame* ReportUpTo(const Frame* end, uintptr_t* pcs, int max, int* depth) const {
    const Frame* frame = old_;
    int count = *depth;
    if (zone_->any_hidden) {
      for (; frame != end && count < max; ++frame) {
        pcs[count] = frame->pc;
        count += frame->hidden ? 0 : 1;
      }
    } else {
      if (end - frame > max - count) end = frame + (max - count);
      uintptr_t* out = pcs + count;
      count += static_cast<int>(end - frame);
      for (; end - frame >= 4; frame += 4, out += 4) {
        out[0] = frame[0].pc;
        out[1] = frame[1].pc;
        out[2] = frame[2].pc;
        out[3] = frame[3].pc;
      }
      for (; frame != end; ++frame) *out++ = frame->pc;
    }
    *depth = count;
    return frame;
  }

  void TakeOver(const Frame* end) {
    if (Prepend(record_, zone_, old_)) return;
    const bool complete = zone_->complete;
    const bool determined = zone_->determined;
    const uint32_t unreported = zone_->end - zone_->reported_end;
    for (; old_ != end; ++old_) record_.Copy(*zone_, *old_);
    Finish(complete, determined);
    FrameZone& taken = cache_->zones[cache_->zone];
    if (taken.reported_end > unreported) taken.reported_end -= unreported;
  }

  ThreadUnwindCache* const cache_;
  FrameZone* const zone_;
  Frame* old_;  // that the walk has not passed yet
  uint32_t holding_;
  Recorder record_;
};

// One walk that does not.
class ForgetfulWalk {
 public:
  ForgetfulWalk(ThreadUnwindCache*, bool, uintptr_t) {}
  NoRecorder* record() { return &record_; }
  void AddFrame(const Position&, UnwindRule) {}
  void Close() {}
  bool Meets(const Position&) { return false; }
  bool Follow(Position*, uintptr_t*, int, int*, int*) { return false; }
  void Finish(bool, bool) {}

 private:
  NoRecorder record_;
};
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
  if ((address & 7) != 0) return false;
  if (address < bounds->low) {
    const uintptr_t page = PageOf(address);
    if (page + kPageBytes != bounds->low || ReadableUpTo(page, bounds->low) != bounds->low) {
      return false;
    }
    bounds->low = page;
    return true;
  }
  if (address - bounds->high > reach) return false;
  bounds->high = ReadableUpTo(bounds->high, address + 8);
  return address < bounds->high;
}

namespace {

template <typename Walk>
UnwindResult WalkAlong(ThreadUnwindCache* cache, StackList stacks, bool same_stack,
                       uint32_t generation, const CallerFrame& start, uintptr_t* pcs, int max,
                       bool frame_pointers_only) {
  RuleWorkspace* const workspace = cache != nullptr ? &cache->workspace : nullptr;
  Walk walk(cache, same_stack, start.sp);
  Position position = {start.pc, start.sp, start.frame_pointer, false, false};
  int depth = 0;
  int unchanged = 0;
  bool complete = false;
  bool led_nowhere = false;
  bool guessed_end = false;
  uint32_t good_index = 0;
  uintptr_t good_sp = start.sp;
  for (;;) {
    if (walk.Meets(position)) {
      if (walk.Follow(&position, pcs, max, &depth, &unchanged)) {
        if (cache != nullptr) cache->stack_count = stacks.Finish(false, good_index, good_sp);
        if (depth == 0) pcs[depth++] = start.pc;
        return {depth, unchanged, 0};
      }
      if (depth == max) break;
    }
    UnwindRule rule = RuleFor(position, generation, workspace);
    if (rule.cfa_kind == UnwindRule::kNotCode || (position.guessed && !rule.after_call())) {
      led_nowhere = position.pc != 0;
      complete = !led_nowhere;
      break;
    }
    if (frame_pointers_only) rule.cfa_kind = UnwindRule::kFramePointer;
    good_index = stacks.index();
    good_sp = position.sp;
    if (good_index == 0) walk.AddFrame(position, rule);
    pcs[depth] = Reported(position);
    depth += rule.hidden() ? 0 : 1;
    if (depth == max) break;

    Step step;
    if (__builtin_expect(rule.cfa_kind >= UnwindRule::kSp && rule.cfa_kind <= UnwindRule::kLoadBp,
                         1)) {
      step = StepByCfi(rule, &position, stacks.current(), walk.record());
    } else if (rule.cfa_kind == UnwindRule::kSignal) {
      step = StepOverSignal(rule, &position, &stacks, walk.record());
    } else if (rule.cfa_kind == UnwindRule::kFramePointer) {
      step = StepByFramePointer(rule.may_switch(), &position, &stacks, walk.record());
#if defined(__x86_64__)
    } else if (rule.cfa_kind == UnwindRule::kAllRegisters) {
      depth = WalkByAllRegisters(workspace, start, pcs, max);
      walk.Close();  // it read more than what was recorded
      break;
#endif
    } else {
      step = Step::kEnd;
    }
    if (__builtin_expect(step == Step::kDone, 1)) continue;
    if (step == Step::kOtherStack) {
      walk.Close();
      continue;
    }
    complete = step == Step::kEnd;
    guessed_end = complete && rule.cfa_kind == UnwindRule::kFramePointer;
    led_nowhere = step == Step::kBroken;
    break;
  }
  // Where a frame pointer leads nowhere, what is mapped there has a say, too.
  walk.Finish(complete, (complete && !guessed_end) || depth == max);
  if (cache != nullptr) cache->stack_count = stacks.Finish(led_nowhere, good_index, good_sp);
  if (depth == 0) pcs[depth++] = start.pc;
  return {depth, 0, 0};
}

__attribute__((noinline)) UnwindResult WalkWithoutMemory(uint32_t generation,
                                                         const CallerFrame& start, uintptr_t* pcs,
                                                         int max, bool frame_pointers_only) {
  StackBounds bounds[kMaxStacks];
  StackList stacks(bounds, 0);
  stacks.Start(start.sp);
  return WalkAlong<ForgetfulWalk>(nullptr, stacks, false, generation, start, pcs, max,
                                  frame_pointers_only);
}

}  // namespace

UnwindResult WalkByRules(ThreadUnwindCache* cache, const CallerFrame& start, uintptr_t* pcs,
                         int max, bool frame_pointers_only) {
  const uint32_t generation = ModuleGeneration();
  if (cache == nullptr) {
    return WalkWithoutMemory(generation, start, pcs, max, frame_pointers_only);
  }
  const auto thread = reinterpret_cast<uintptr_t>(__builtin_thread_pointer());
  if (__builtin_expect(cache->thread != thread, 0)) {
    cache->thread = thread;
    cache->memory = 0;
    cache->stack_count = 0;
    cache->stacks[0] = StackBounds();
  }
  StackList stacks(cache->stacks, cache->stack_count);
  const uint32_t memory = generation | (frame_pointers_only ? 1u << 16 : 0);
  const bool same_stack = stacks.Start(start.sp) && cache->memory == memory;
  cache->memory = memory;
  return WalkAlong<RememberingWalk>(cache, stacks, same_stack, generation, start, pcs, max,
                                    frame_pointers_only);
}

}  // namespace ollamatrace::capture
