#include "preload/capture/cfi_rule.h"

#include "preload/capture/dwarf_reader.h"

namespace ollamatrace::capture {
namespace {

constexpr int kMaxStack = 8;
constexpr int kMaxOperations = 64;  // bounds loops made of DW_OP_bra

// DW_OP_*
enum : uint8_t {
  kDeref = 0x06,
  kConst1u = 0x08,
  kConst1s = 0x09,
  kConst2u = 0x0a,
  kConst2s = 0x0b,
  kConst4u = 0x0c,
  kConst4s = 0x0d,
  kConst8u = 0x0e,
  kConst8s = 0x0f,
  kConstu = 0x10,
  kConsts = 0x11,
  kDup = 0x12,
  kDrop = 0x13,
  kOver = 0x14,
  kSwap = 0x16,
  kAnd = 0x1a,
  kMinus = 0x1c,
  kMul = 0x1e,
  kOr = 0x21,
  kPlus = 0x22,
  kPlusUconst = 0x23,
  kShl = 0x24,
  kShr = 0x25,
  kEq = 0x29,
  kGe = 0x2a,
  kGt = 0x2b,
  kLe = 0x2c,
  kLt = 0x2d,
  kNe = 0x2e,
  kLit0 = 0x30,
  kLit31 = 0x4f,
  kBreg0 = 0x70,
  kBreg31 = 0x8f,
  kNopOp = 0x96,
};

class SymbolicMachine {
 public:
  SymbolicMachine(uintptr_t pc, const uintptr_t* initial) : pc_(pc) {
    if (initial != nullptr) PushConstant(*initial);
  }

  bool Run(const CfiRange& expression, SymbolicValue* result) {
    DwarfReader reader(expression.begin, expression.end);
    for (int i = 0; !reader.done(); ++i) {
      if (i == kMaxOperations || !Step(&reader) || !reader.ok()) return false;
    }
    return reader.ok() && Pop(result);
  }

 private:
  bool Push(const SymbolicValue& value) {
    if (count_ == kMaxStack) return false;
    stack_[count_++] = value;
    return true;
  }
  bool PushConstant(uint64_t value) { return Push({SymbolicValue::kConstant, 0, value}); }
  bool Pop(SymbolicValue* value) {
    if (count_ == 0) return false;
    *value = stack_[--count_];
    return true;
  }

  bool Binary(uint8_t op) {
    SymbolicValue right;
    SymbolicValue left;
    if (!Pop(&right) || !Pop(&left)) return false;
    const bool constants =
        left.kind == SymbolicValue::kConstant && right.kind == SymbolicValue::kConstant;
    const auto a = static_cast<int64_t>(left.offset);
    const auto b = static_cast<int64_t>(right.offset);
    switch (op) {
      case kPlus:
        if (left.kind == SymbolicValue::kConstant) {
          const SymbolicValue other = left;
          left = right;
          right = other;
        }
        if (left.kind == SymbolicValue::kLoad || right.kind != SymbolicValue::kConstant) {
          return false;
        }
        left.offset += right.offset;
        return Push(left);
      case kMinus:
        if (left.kind == SymbolicValue::kLoad || right.kind != SymbolicValue::kConstant) {
          return false;
        }
        left.offset -= right.offset;
        return Push(left);
      default:
        break;
    }
    if (!constants) return false;
    switch (op) {
      case kAnd:
        return PushConstant(left.offset & right.offset);
      case kOr:
        return PushConstant(left.offset | right.offset);
      case kMul:
        return PushConstant(left.offset * right.offset);
      case kShl:
        return PushConstant(right.offset < 64 ? left.offset << right.offset : 0);
      case kShr:
        return PushConstant(right.offset < 64 ? left.offset >> right.offset : 0);
      case kEq:
        return PushConstant(a == b);
      case kGe:
        return PushConstant(a >= b);
      case kGt:
        return PushConstant(a > b);
      case kLe:
        return PushConstant(a <= b);
      case kLt:
        return PushConstant(a < b);
      case kNe:
        return PushConstant(a != b);
      default:
        return false;
    }
  }

  bool Step(DwarfReader* reader) {
    const uint8_t op = reader->U8();
    if (op >= kLit0 && op <= kLit31) return PushConstant(op - kLit0);
    if (op >= kBreg0 && op <= kBreg31) {
      const auto reg = static_cast<uint8_t>(op - kBreg0);
      const auto offset = static_cast<uint64_t>(reader->Sleb());
      if (reg == kDwarfReturnAddress) return PushConstant(pc_ + offset);
      return Push({SymbolicValue::kRegister, reg, offset});
    }
    switch (op) {
      case kDeref: {
        SymbolicValue value;
        if (!Pop(&value) || value.kind != SymbolicValue::kRegister) return false;
        value.kind = SymbolicValue::kLoad;
        return Push(value);
      }
      case kConst1u:
        return PushConstant(reader->U8());
      case kConst1s:
        return PushConstant(static_cast<uint64_t>(int64_t{static_cast<int8_t>(reader->U8())}));
      case kConst2u:
        return PushConstant(reader->U16());
      case kConst2s:
        return PushConstant(static_cast<uint64_t>(int64_t{static_cast<int16_t>(reader->U16())}));
      case kConst4u:
        return PushConstant(reader->U32());
      case kConst4s:
        return PushConstant(static_cast<uint64_t>(int64_t{static_cast<int32_t>(reader->U32())}));
      case kConst8u:
      case kConst8s:
        return PushConstant(reader->U64());
      case kConstu:
        return PushConstant(reader->Uleb());
      case kConsts:
        return PushConstant(static_cast<uint64_t>(reader->Sleb()));
      case kDup:
        return count_ > 0 && Push(stack_[count_ - 1]);
      case kDrop: {
        SymbolicValue value;
        return Pop(&value);
      }
      case kOver:
        return count_ > 1 && Push(stack_[count_ - 2]);
      case kSwap: {
        if (count_ < 2) return false;
        const SymbolicValue top = stack_[count_ - 1];
        stack_[count_ - 1] = stack_[count_ - 2];
        stack_[count_ - 2] = top;
        return true;
      }
      case kPlusUconst: {
        const uint64_t addend = reader->Uleb();
        if (count_ == 0 || stack_[count_ - 1].kind == SymbolicValue::kLoad) return false;
        stack_[count_ - 1].offset += addend;
        return true;
      }
      case kNopOp:
        return true;
      default:
        return Binary(op);
    }
  }

  const uintptr_t pc_;
  SymbolicValue stack_[kMaxStack];
  int count_ = 0;
};

bool FitsCfaOffset(int64_t offset) { return offset >= INT32_MIN && offset <= INT32_MAX; }

bool FitsWords(int64_t offset) {
  return offset % 8 == 0 && offset / 8 >= INT16_MIN && offset / 8 <= INT16_MAX;
}

UnwindRule AllRegisters() {
  UnwindRule rule;
  rule.cfa_kind = UnwindRule::kAllRegisters;
  return rule;
}

CfiRange ExpressionOf(const RegisterRule& rule) {
  return {rule.expression, rule.expression + rule.expression_length};
}

// The address at which `rule` says the register is saved, when that is a register plus a constant.
bool SavedAt(const RegisterRule& rule, uintptr_t pc, SymbolicValue* address) {
  return rule.kind == RegisterRule::kExpression &&
         EvaluateSymbolically(ExpressionOf(rule), pc, nullptr, address) &&
         address->kind == SymbolicValue::kRegister;
}

UnwindRule CompileSignalRule(const CfiRow& row, uintptr_t pc) {
  SymbolicValue cfa;
  SymbolicValue return_address;
  SymbolicValue bp;
  if (row.cfa_kind != CfiRow::kCfaExpression ||
      !EvaluateSymbolically(row.cfa_expression, pc, nullptr, &cfa) ||
      cfa.kind != SymbolicValue::kLoad || cfa.reg != kDwarfRsp ||
      !FitsCfaOffset(static_cast<int64_t>(cfa.offset)) ||
      !SavedAt(row.Rule(kDwarfReturnAddress), pc, &return_address) ||
      return_address.reg != kDwarfRsp || return_address.offset != cfa.offset + 8 ||
      !SavedAt(row.Rule(kDwarfRbp), pc, &bp) || bp.reg != kDwarfRsp ||
      !FitsWords(static_cast<int64_t>(bp.offset))) {
    return AllRegisters();
  }
  UnwindRule rule;
  rule.cfa_kind = UnwindRule::kSignal;
  rule.cfa_offset = static_cast<int32_t>(cfa.offset);
  rule.set_bp(UnwindRule::kBpAtSp, static_cast<int16_t>(static_cast<int64_t>(bp.offset) / 8));
  return rule;
}

bool CompileCfa(const CfiRow& row, uintptr_t pc, UnwindRule* rule) {
  SymbolicValue cfa;
  if (row.cfa_kind == CfiRow::kRegisterOffset) {
    cfa.kind = SymbolicValue::kRegister;
    cfa.reg = static_cast<uint8_t>(row.cfa_register < 255 ? row.cfa_register : 255);
    cfa.offset = static_cast<uint64_t>(row.cfa_offset);
  } else if (!EvaluateSymbolically(row.cfa_expression, pc, nullptr, &cfa)) {
    return false;
  }
  const auto offset = static_cast<int64_t>(cfa.offset);
  if (!FitsCfaOffset(offset)) return false;
  rule->cfa_offset = static_cast<int32_t>(offset);
  if (cfa.kind == SymbolicValue::kRegister && cfa.reg == kDwarfRsp) {
    rule->cfa_kind = UnwindRule::kSp;
  } else if (cfa.kind == SymbolicValue::kRegister && cfa.reg == kDwarfRbp) {
    rule->cfa_kind = UnwindRule::kBp;
  } else if (cfa.kind == SymbolicValue::kLoad && cfa.reg == kDwarfRbp) {
    rule->cfa_kind = UnwindRule::kLoadBp;
  } else {
    return false;
  }
  return true;
}

bool CompileBp(const RegisterRule& saved, uintptr_t pc, UnwindRule* rule) {
  SymbolicValue address;
  switch (saved.kind) {
    case RegisterRule::kUnspecified:
    case RegisterRule::kSame:
    case RegisterRule::kUndefined:  // its value is lost; keeping the old one is as good as any
      rule->set_bp(UnwindRule::kBpSame, 0);
      return true;
    case RegisterRule::kOffset:
      if (!FitsWords(saved.offset)) return false;
      rule->set_bp(UnwindRule::kBpAtCfa, static_cast<int16_t>(saved.offset / 8));
      return true;
    case RegisterRule::kExpression:
      if (!SavedAt(saved, pc, &address) || !FitsWords(static_cast<int64_t>(address.offset))) {
        return false;
      }
      if (address.reg != kDwarfRsp && address.reg != kDwarfRbp) return false;
      rule->set_bp(address.reg == kDwarfRsp ? UnwindRule::kBpAtSp : UnwindRule::kBpAtBp,
                   static_cast<int16_t>(static_cast<int64_t>(address.offset) / 8));
      return true;
    default:
      return false;
  }
}

}  // namespace

bool EvaluateSymbolically(const CfiRange& expression, uintptr_t pc, const uintptr_t* initial,
                          SymbolicValue* result) {
  return SymbolicMachine(pc, initial).Run(expression, result);
}

UnwindRule CompileRule(const CfiRow& row, bool signal_frame, uintptr_t pc) {
  if (signal_frame) return CompileSignalRule(row, pc);
  const RegisterRule& return_address = row.Rule(kDwarfReturnAddress);
  UnwindRule rule;
  if (return_address.kind == RegisterRule::kUndefined) {
    rule.cfa_kind = UnwindRule::kEnd;
    return rule;
  }
  // A step reads the return address just below the CFA, where a call instruction puts it.
  if (return_address.kind != RegisterRule::kOffset || return_address.offset != -8) {
    return AllRegisters();
  }
  // A caller's stack pointer that is not the CFA: not made by compilers.
  if (row.Rule(kDwarfRsp).kind != RegisterRule::kUnspecified) return AllRegisters();
  if (!CompileCfa(row, pc, &rule) || !CompileBp(row.Rule(kDwarfRbp), pc, &rule)) {
    return AllRegisters();
  }
  return rule;
}

}  // namespace ollamatrace::capture
