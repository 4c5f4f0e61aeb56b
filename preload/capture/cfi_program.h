#ifndef OLLAMATRACE_PRELOAD_CAPTURE_CFI_PROGRAM_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_CFI_PROGRAM_H_

// Runs the instructions of an FDE up to one program counter: how the caller's registers are found
// there.
//
// DWARF 5, section 6.4. Only the registers that an x86-64 callee must preserve are followed (plus
// the return address).

#include <cstdint>

#include "preload/capture/cfi_section.h"

namespace ollamatrace::capture {

// DWARF register numbers of x86-64 (System V ABI, figure 3.36).
inline constexpr uint64_t kDwarfRbx = 3;
inline constexpr uint64_t kDwarfRbp = 6;
inline constexpr uint64_t kDwarfRsp = 7;
inline constexpr uint64_t kDwarfReturnAddress = 16;

struct RegisterRule {
  enum Kind : uint8_t {
    kUnspecified,  // not mentioned: a preserved register still holds its value
    kSame,
    kUndefined,
    kOffset,           // saved at CFA + offset
    kValueOffset,      // is CFA + offset
    kRegister,         // is in register `offset`
    kExpression,       // saved at the address that `expression` computes
    kValueExpression,  // is what `expression` computes
  };
  Kind kind = kUnspecified;
  uint32_t expression_length = 0;
  union {
    int64_t offset = 0;
    const uint8_t* expression;
  };
};

struct CfiRow {
  enum CfaKind : uint8_t { kNone, kRegisterOffset, kCfaExpression };
  static constexpr int kRegisters = 8;  // rbx rbp rsp r12 r13 r14 r15 and the return address

  CfaKind cfa_kind = kNone;
  uint64_t cfa_register = 0;
  int64_t cfa_offset = 0;
  CfiRange cfa_expression;
  RegisterRule registers[kRegisters];

  // Index into `registers` of a DWARF register number, -1 for one that is not followed.
  static int Slot(uint64_t dwarf_register);
  const RegisterRule& Rule(uint64_t dwarf_register) const {
    return registers[Slot(dwarf_register)];
  }
};

// What running the instructions needs besides the result: about 1 KiB, which the caller keeps off
// small stacks.
struct CfiRows {
  static constexpr int kMaxRemembered = 4;  // compilers nest one or two deep

  CfiRow row;
  CfiRow initial;
  CfiRow remembered[kMaxRemembered];
};

// Makes rows->row the row in force at `pc` (which `info` covers). False when the instructions are
// malformed or unknown.
bool RunCfiProgram(const FrameInfo& info, uintptr_t pc, CfiRows* rows);

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_CFI_PROGRAM_H_
