#ifndef OLLAMATRACE_PRELOAD_CAPTURE_CFI_RULE_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_CFI_RULE_H_

// One step of a walk in eight bytes: how the caller's frame is found from pc, stack pointer and
// frame pointer alone. Nearly all of a program's unwind rows fit; those that need another register
// say so (kAllRegisters).

#include <cstdint>

#include "preload/capture/cfi_program.h"

namespace ollamatrace::capture {

struct UnwindRule {
  enum CfaKind : uint8_t {
    kNotCode,       // the address is not executable: the walk ended one frame earlier
    kEnd,           // outermost frame (return address undefined)
    kSp,            // CFA = sp + cfa_offset
    kBp,            // CFA = bp + cfa_offset
    kLoadBp,        // CFA = *(bp + cfa_offset): functions that realign their stack
    kSignal,        // caller's sp = *(sp + cfa_offset), its pc in the next word: a signal handler's
                    // return
    kFramePointer,  // no CFI: by the saved frame pointer, if it looks like one
    kAllRegisters,  // CFI that needs more than sp and bp
  };
  enum BpKind : uint8_t {
    kBpSame,
    kBpAtCfa,  // *(CFA + 8 * bp_words)
    kBpAtSp,   // *(sp + 8 * bp_words)
    kBpAtBp,   // *(bp + 8 * bp_words)
  };
  static constexpr uint8_t kHidden = 1;     // in a hidden module: stepped through, not reported
  static constexpr uint8_t kAfterCall = 2;  // the code before the return address is a call
  static constexpr uint8_t kMaySwitch = 4;  // kFramePointer: may lead to another stack

  int32_t cfa_offset = 0;
  int16_t bp_words = 0;
  CfaKind cfa_kind = kNotCode;
  uint8_t bp_and_flags = 0;  // BpKind | flags << 2

  BpKind bp_kind() const { return static_cast<BpKind>(bp_and_flags & 3); }
  bool hidden() const { return (bp_and_flags & (kHidden << 2)) != 0; }
  bool after_call() const { return (bp_and_flags & (kAfterCall << 2)) != 0; }
  bool may_switch() const { return (bp_and_flags & (kMaySwitch << 2)) != 0; }
  void set_bp(BpKind kind, int16_t words) {
    bp_and_flags = static_cast<uint8_t>((bp_and_flags & ~3u) | kind);
    bp_words = words;
  }
  void set_hidden() { bp_and_flags |= kHidden << 2; }
  void set_after_call() { bp_and_flags |= kAfterCall << 2; }
  void set_may_switch() { bp_and_flags |= kMaySwitch << 2; }
};
static_assert(sizeof(UnwindRule) == sizeof(uint64_t));

// What a DWARF expression computes, as far as it can be known without running the program.
struct SymbolicValue {
  enum Kind : uint8_t {
    kConstant,  // offset
    kRegister,  // register + offset
    kLoad,      // *(register + offset)
  };
  Kind kind = kConstant;
  uint8_t reg = 0;
  uint64_t offset = 0;
};

// Evaluates a DWARF expression symbolically; `pc` is the value of register 16. `initial`, unless
// null, is the constant on the stack at the beginning: expressions of registers find the CFA there.
// False when the expression is malformed or its value has none of the three forms.
bool EvaluateSymbolically(const CfiRange& expression, uintptr_t pc, const uintptr_t* initial,
                          SymbolicValue* result);

// The rule for `row`, which was made for program counter `pc`. kAllRegisters when it does not fit.
UnwindRule CompileRule(const CfiRow& row, bool signal_frame, uintptr_t pc);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_CFI_RULE_H_
