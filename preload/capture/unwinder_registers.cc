// The walk that follows all preserved registers: see unwinder_walk.h.

#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_walk.h"

#if defined(__x86_64__)

namespace ollamatrace::capture {
namespace {

constexpr int kRegisters = CfiRow::kRegisters;  // in the order of CfiRow::Slot
constexpr int kRbp = 1;
constexpr int kRsp = 2;
constexpr int kPc = 7;
constexpr int kMaxOwnFrames = 32;  // between here and the caller that the walk is to start with

// Offsets in a struct ucontext (<asm/ucontext.h>) of the registers in that order.
constexpr uint8_t kContextOffsets[kRegisters] = {128, 120, 160, 72, 80, 88, 96, 168};

// And of those that a callee need not preserve, by DWARF number; 0 where it is one of the others.
constexpr uint8_t kScratchOffsets[] = {144, 136, 152, 0, 112, 104, 0, 0, 40, 48, 56, 64};

struct Registers {
  uintptr_t values[kRegisters];
  uint8_t known;  // a bit for each

  bool Knows(int slot) const { return (known >> slot & 1) != 0; }
  void Set(int slot, uintptr_t value) {
    values[slot] = value;
    known = static_cast<uint8_t>(known | 1u << slot);
  }
  void Lose(int slot) { known = static_cast<uint8_t>(known & ~(1u << slot)); }
};

class RegisterWalk {
 public:
  RegisterWalk(RuleWorkspace* workspace, uint32_t generation, uintptr_t sp)
      : workspace_(workspace), generation_(generation) {
    EnterStack(&bounds_, sp);
  }

  // Whether `pc` is code, and what is known about it without CFI.
  UnwindRule RuleAt(const Registers& registers, bool exact) const {
    const uintptr_t address = LookupAddress(registers.values[kPc], exact);
    UnwindRule rule;
    if (FindRule(address, generation_, &rule)) return rule;
    return WorkOutRule(address, exact, generation_, workspace_);
  }

  // To the caller's frame. False at the end of the stack.
  bool Step(UnwindRule rule, bool* exact, bool* guessed, Registers* registers) {
    const uintptr_t sp = registers->values[kRsp];
    const uintptr_t address = LookupAddress(registers->values[kPc], *exact);
    *guessed = false;
    if (rule.cfa_kind == UnwindRule::kSignal) {
      *exact = true;
      return StepOverSignal(registers);
    }
    *exact = false;
    ModuleTables tables;
    FindModule(address, &tables);
    if (FindCfiRow(tables, address, &workspace_->info, &workspace_->rows)) {
      const bool stepped = StepByRow(workspace_->rows.row, address, registers);
      // A function may be interrupted when it has left its frame already.
      const uintptr_t lowest = sp + (context_ != 0 ? 0 : 1);
      context_ = 0;
      return stepped && registers->values[kRsp] >= lowest;
    }
    context_ = 0;
    *guessed = true;
    return StepByFramePointer(registers);
  }

 private:
  bool Load(uintptr_t address, uintptr_t* value) {
    if (!bounds_.Holds(address) && !ExtendStack(&bounds_, address, kMaxFrameBytes)) return false;
    *value = *reinterpret_cast<const uintptr_t*>(address);
    return true;
  }

  // The preserved registers around it have been read already.
  bool LoadContext(uintptr_t address, uintptr_t* value) const {
    if (!bounds_.Holds(address) && !handler_bounds_.Holds(address)) return false;
    *value = *reinterpret_cast<const uintptr_t*>(address);
    return true;
  }

  bool Get(const Registers& registers, uint64_t dwarf_register, uintptr_t* value) {
    const int slot = CfiRow::Slot(dwarf_register);
    if (slot < 0) {
      // Known only where a signal interrupted: functions that switch stacks (throwing, coroutines)
      // need them in their last instructions.
      return context_ != 0 && dwarf_register < sizeof(kScratchOffsets) &&
             LoadContext(context_ + kScratchOffsets[dwarf_register], value);
    }
    if (!registers.Knows(slot)) return false;
    *value = registers.values[slot];
    return true;
  }

  bool Evaluate(const CfiRange& expression, uintptr_t pc, const uintptr_t* initial,
                const Registers& registers, uintptr_t* value) {
    SymbolicValue result;
    if (!EvaluateSymbolically(expression, pc, initial, &result)) return false;
    uintptr_t base = 0;
    if (result.kind != SymbolicValue::kConstant && !Get(registers, result.reg, &base)) return false;
    *value = base + result.offset;
    return result.kind != SymbolicValue::kLoad || Load(*value, value);
  }

  // The caller's value of the register that `rule` is about. False when it is lost.
  bool Recover(const RegisterRule& rule, int slot, uintptr_t cfa, uintptr_t pc,
               const Registers& callee, uintptr_t* value) {
    const CfiRange expression = {rule.expression, rule.expression + rule.expression_length};
    switch (rule.kind) {
      case RegisterRule::kUnspecified:
      case RegisterRule::kSame:
        if (slot == kRsp) {
          *value = cfa;
          return true;
        }
        *value = callee.values[slot];
        return slot != kPc && callee.Knows(slot);
      case RegisterRule::kUndefined:
        return false;
      case RegisterRule::kOffset:
        return Load(cfa + static_cast<uintptr_t>(rule.offset), value);
      case RegisterRule::kValueOffset:
        *value = cfa + static_cast<uintptr_t>(rule.offset);
        return true;
      case RegisterRule::kRegister:
        return Get(callee, static_cast<uint64_t>(rule.offset), value);
      case RegisterRule::kExpression:
        return Evaluate(expression, pc, &cfa, callee, value) && Load(*value, value);
      case RegisterRule::kValueExpression:
        return Evaluate(expression, pc, &cfa, callee, value);
    }
    return false;
  }

  bool StepByRow(const CfiRow& row, uintptr_t pc, Registers* registers) {
    uintptr_t cfa;
    if (row.cfa_kind == CfiRow::kRegisterOffset) {
      if (!Get(*registers, row.cfa_register, &cfa)) return false;
      cfa += static_cast<uintptr_t>(row.cfa_offset);
    } else if (!Evaluate(row.cfa_expression, pc, nullptr, *registers, &cfa)) {
      return false;
    }
    const Registers callee = *registers;
    for (int slot = 0; slot < kRegisters; ++slot) {
      uintptr_t value;
      if (Recover(row.registers[slot], slot, cfa, pc, callee, &value)) {
        registers->Set(slot, value);
      } else {
        registers->Lose(slot);
      }
    }
    return registers->Knows(kPc) && registers->Knows(kRsp);
  }

  bool StepByFramePointer(Registers* registers) {
    const uintptr_t pair = registers->values[kRbp];
    uintptr_t bp;
    uintptr_t pc;
    if (!registers->Knows(kRbp) || pair < registers->values[kRsp] ||
        pair - registers->values[kRsp] > kMaxGuessedFrameBytes || !Load(pair, &bp) ||
        !Load(pair + 8, &pc)) {
      return false;
    }
    registers->known = 0;
    registers->Set(kRbp, bp);
    registers->Set(kRsp, pair + 16);
    registers->Set(kPc, pc);
    return true;
  }

  // The interrupted stack may be another one, but only once.
  bool StepOverSignal(Registers* registers) {
    const uintptr_t context = registers->values[kRsp];
    for (int slot = 0; slot < kRegisters; ++slot) {
      uintptr_t value;
      if (!Load(context + kContextOffsets[slot], &value)) return false;
      registers->Set(slot, value);
    }
    const uintptr_t sp = registers->values[kRsp];
    context_ = context;
    if (sp > context && bounds_.Holds(sp)) return true;
    if (switches_++ == kMaxStacks) return false;
    handler_bounds_ = bounds_;
    bounds_ = StackBounds();
    EnterStack(&bounds_, sp + 8);
    return bounds_.Holds(sp);
  }

  RuleWorkspace* const workspace_;
  const uint32_t generation_;
  StackBounds bounds_;
  StackBounds handler_bounds_;  // of the stack that context_ lies on
  uintptr_t context_ = 0;       // struct ucontext of the frame at hand, if a signal interrupted it
  int switches_ = 0;
};

// The registers at an instruction of this function (inlined into WalkFromHere).
inline __attribute__((always_inline)) void CaptureRegisters(Registers* registers) {
  __asm__ volatile(
      "movq %%rbx, 0(%0)\n\t"
      "movq %%rbp, 8(%0)\n\t"
      "movq %%rsp, 16(%0)\n\t"
      "movq %%r12, 24(%0)\n\t"
      "movq %%r13, 32(%0)\n\t"
      "movq %%r14, 40(%0)\n\t"
      "movq %%r15, 48(%0)\n\t"
      "leaq 0f(%%rip), %%rax\n\t"
      "movq %%rax, 56(%0)\n"
      "0:"
      :
      : "D"(registers->values)
      : "rax", "memory");
  registers->known = 0xff;
}

int WalkFromHere(RuleWorkspace* workspace, const CallerFrame& start, uintptr_t* pcs, int max) {
  const uint32_t generation = ModuleGeneration();
  Registers registers;
  CaptureRegisters(&registers);
  RegisterWalk walk(workspace, generation, registers.values[kRsp]);
  bool exact = true;
  bool guessed = false;
  bool found = false;
  for (int i = 0; i < kMaxOwnFrames; ++i) {
    found = registers.values[kPc] == start.pc && registers.values[kRsp] == start.sp;
    if (found || registers.values[kRsp] > start.sp) break;
    const UnwindRule rule = walk.RuleAt(registers, exact);
    if (rule.cfa_kind == UnwindRule::kNotCode || rule.cfa_kind == UnwindRule::kEnd ||
        !walk.Step(rule, &exact, &guessed, &registers)) {
      break;
    }
  }
  if (!found) {  // this library's own CFI is not known
    registers.known = 0;
    registers.Set(kPc, start.pc);
    registers.Set(kRsp, start.sp);
    registers.Set(kRbp, start.frame_pointer);
    exact = false;
    guessed = false;
  }
  int depth = 0;
  while (depth < max) {
    const UnwindRule rule = walk.RuleAt(registers, exact);
    if (rule.cfa_kind == UnwindRule::kNotCode || (guessed && !rule.after_call())) break;
    if (!rule.hidden()) pcs[depth++] = registers.values[kPc] | (exact ? kExactPc : 0);
    if (rule.cfa_kind == UnwindRule::kEnd || !walk.Step(rule, &exact, &guessed, &registers)) break;
  }
  return depth;
}

__attribute__((noinline)) int WalkFromHereOnStack(const CallerFrame& start, uintptr_t* pcs,
                                                  int max) {
  RuleWorkspace workspace = {};
  return WalkFromHere(&workspace, start, pcs, max);
}

}  // namespace

__attribute__((noinline)) int WalkByAllRegisters(RuleWorkspace* workspace, const CallerFrame& start,
                                                 uintptr_t* pcs, int max) {
  if (workspace == nullptr) return WalkFromHereOnStack(start, pcs, max);
  return WalkFromHere(workspace, start, pcs, max);
}

}  // namespace ollamatrace::capture

#endif  // __x86_64__
