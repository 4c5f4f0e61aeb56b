#include "preload/capture/cfi_program.h"

#include "preload/capture/dwarf_reader.h"

namespace ollamatrace::capture {
namespace {

// DW_CFA_*
enum : uint8_t {
  kNop = 0x00,
  kSetLoc = 0x01,
  kAdvanceLoc1 = 0x02,
  kAdvanceLoc2 = 0x03,
  kAdvanceLoc4 = 0x04,
  kOffsetExtended = 0x05,
  kRestoreExtended = 0x06,
  kUndefinedOp = 0x07,
  kSameValue = 0x08,
  kRegisterOp = 0x09,
  kRememberState = 0x0a,
  kRestoreState = 0x0b,
  kDefCfa = 0x0c,
  kDefCfaRegister = 0x0d,
  kDefCfaOffset = 0x0e,
  kDefCfaExpression = 0x0f,
  kExpressionOp = 0x10,
  kOffsetExtendedSf = 0x11,
  kDefCfaSf = 0x12,
  kDefCfaOffsetSf = 0x13,
  kValOffset = 0x14,
  kValOffsetSf = 0x15,
  kValExpression = 0x16,
  kGnuWindowSave = 0x2d,  // aarch64: DW_CFA_AARCH64_negate_ra_state
  kGnuArgsSize = 0x2e,
  kGnuNegativeOffsetExtended = 0x2f,
};

// Products of two numbers from the section: wraps, where signed arithmetic would be undefined.
int64_t Scaled(uint64_t factor, int64_t alignment) {
  return static_cast<int64_t>(factor * static_cast<uint64_t>(alignment));
}

class Machine {
 public:
  Machine(const FrameInfo& info, uintptr_t pc, CfiRows* rows)
      : info_(info), pc_(pc), rows_(*rows), row_(rows->row) {}

  // Runs `range`; stops early (and well) at the first instruction that belongs to a later location
  // than pc_.
  bool Run(const CfiRange& range) {
    DwarfReader reader(range.begin, range.end);
    while (!reader.done()) {
      const uint8_t byte = reader.U8();
      const uint8_t operand = byte & 0x3f;
      bool more = true;
      switch (byte >> 6) {
        case 1:
          more = Advance(operand);
          break;
        case 2:
          SetRule(operand, RegisterRule::kOffset, Scaled(reader.Uleb(), data_alignment()));
          break;
        case 3:
          Restore(operand);
          break;
        default:
          if (!Extended(operand, &reader, &more)) return false;
          break;
      }
      if (!reader.ok()) return false;
      if (!more) return true;
    }
    return reader.ok();
  }

  void KeepAsInitial() { rows_.initial = row_; }
  void StartAt(uintptr_t location) { location_ = location; }

 private:
  int64_t data_alignment() const { return info_.common.data_alignment; }

  bool Advance(uint64_t delta) {
    location_ += delta * info_.common.code_alignment;
    return location_ <= pc_;
  }

  void SetRule(uint64_t reg, RegisterRule::Kind kind, int64_t offset) {
    const int slot = CfiRow::Slot(reg);
    if (slot < 0) return;
    RegisterRule& rule = row_.registers[slot];
    rule.kind = kind;
    rule.expression_length = 0;
    rule.offset = offset;
  }

  void SetExpression(uint64_t reg, RegisterRule::Kind kind, DwarfReader* reader) {
    const CfiRange range = Block(reader);
    const int slot = CfiRow::Slot(reg);
    if (slot < 0 || !reader->ok()) return;
    RegisterRule& rule = row_.registers[slot];
    rule.kind = kind;
    rule.expression_length = static_cast<uint32_t>(range.end - range.begin);
    rule.expression = range.begin;
  }

  void Restore(uint64_t reg) {
    const int slot = CfiRow::Slot(reg);
    if (slot >= 0) row_.registers[slot] = rows_.initial.registers[slot];
  }

  CfiRange Block(DwarfReader* reader) {
    const uint64_t length = reader->Uleb();
    const uint8_t* begin = reader->position();
    if (length > UINT32_MAX) reader->Fail();
    reader->Skip(length);
    return {begin, reader->ok() ? begin + length : begin};
  }

  void DefineCfa(uint64_t reg, int64_t offset) {
    row_.cfa_kind = CfiRow::kRegisterOffset;
    row_.cfa_register = reg;
    row_.cfa_offset = offset;
  }

  bool Extended(uint8_t op, DwarfReader* reader, bool* more) {
    switch (op) {
      case kNop:
      case kGnuWindowSave:
        return true;
      case kSetLoc:
        location_ = reader->Encoded(info_.common.pointer_encoding, 0);
        *more = location_ <= pc_;
        return true;
      case kAdvanceLoc1:
        *more = Advance(reader->U8());
        return true;
      case kAdvanceLoc2:
        *more = Advance(reader->U16());
        return true;
      case kAdvanceLoc4:
        *more = Advance(reader->U32());
        return true;
      case kOffsetExtended: {
        const uint64_t reg = reader->Uleb();
        SetRule(reg, RegisterRule::kOffset, Scaled(reader->Uleb(), data_alignment()));
        return true;
      }
      case kOffsetExtendedSf: {
        const uint64_t reg = reader->Uleb();
        SetRule(reg, RegisterRule::kOffset,
                Scaled(static_cast<uint64_t>(reader->Sleb()), data_alignment()));
        return true;
      }
      case kGnuNegativeOffsetExtended: {
        const uint64_t reg = reader->Uleb();
        SetRule(reg, RegisterRule::kOffset, Scaled(0 - reader->Uleb(), data_alignment()));
        return true;
      }
      case kValOffset: {
        const uint64_t reg = reader->Uleb();
        SetRule(reg, RegisterRule::kValueOffset, Scaled(reader->Uleb(), data_alignment()));
        return true;
      }
      case kValOffsetSf: {
        const uint64_t reg = reader->Uleb();
        SetRule(reg, RegisterRule::kValueOffset,
                Scaled(static_cast<uint64_t>(reader->Sleb()), data_alignment()));
        return true;
      }
      case kRestoreExtended:
        Restore(reader->Uleb());
        return true;
      case kUndefinedOp:
        SetRule(reader->Uleb(), RegisterRule::kUndefined, 0);
        return true;
      case kSameValue:
        SetRule(reader->Uleb(), RegisterRule::kSame, 0);
        return true;
      case kRegisterOp: {
        const uint64_t reg = reader->Uleb();
        SetRule(reg, RegisterRule::kRegister, static_cast<int64_t>(reader->Uleb()));
        return true;
      }
      case kRememberState:
        if (remembered_count_ == CfiRows::kMaxRemembered) return false;
        rows_.remembered[remembered_count_++] = row_;
        return true;
      case kRestoreState:
        if (remembered_count_ == 0) return false;
        row_ = rows_.remembered[--remembered_count_];
        return true;
      case kDefCfa: {
        const uint64_t reg = reader->Uleb();
        DefineCfa(reg, static_cast<int64_t>(reader->Uleb()));
        return true;
      }
      case kDefCfaSf: {
        const uint64_t reg = reader->Uleb();
        DefineCfa(reg, Scaled(static_cast<uint64_t>(reader->Sleb()), data_alignment()));
        return true;
      }
      case kDefCfaRegister:
        DefineCfa(reader->Uleb(), row_.cfa_offset);
        return true;
      case kDefCfaOffset:
        DefineCfa(row_.cfa_register, static_cast<int64_t>(reader->Uleb()));
        return true;
      case kDefCfaOffsetSf:
        DefineCfa(row_.cfa_register,
                  Scaled(static_cast<uint64_t>(reader->Sleb()), data_alignment()));
        return true;
      case kDefCfaExpression:
        row_.cfa_expression = Block(reader);
        row_.cfa_kind = CfiRow::kCfaExpression;
        return true;
      case kExpressionOp: {
        const uint64_t reg = reader->Uleb();
        SetExpression(reg, RegisterRule::kExpression, reader);
        return true;
      }
      case kValExpression: {
        const uint64_t reg = reader->Uleb();
        SetExpression(reg, RegisterRule::kValueExpression, reader);
        return true;
      }
      case kGnuArgsSize:
        reader->Uleb();
        return true;
      default:
        return false;
    }
  }

  const FrameInfo& info_;
  const uintptr_t pc_;
  uintptr_t location_ = 0;
  CfiRows& rows_;
  CfiRow& row_;
  int remembered_count_ = 0;
};

}  // namespace

int CfiRow::Slot(uint64_t dwarf_register) {
  switch (dwarf_register) {
    case kDwarfRbx:
      return 0;
    case kDwarfRbp:
      return 1;
    case kDwarfRsp:
      return 2;
    case 12:
    case 13:
    case 14:
    case 15:
      return static_cast<int>(dwarf_register) - 9;
    case kDwarfReturnAddress:
      return 7;
    default:
      return -1;
  }
}

bool RunCfiProgram(const FrameInfo& info, uintptr_t pc, CfiRows* rows) {
  rows->row = CfiRow();
  rows->initial = CfiRow();
  Machine machine(info, pc, rows);
  // The CIE's instructions hold for the whole function, whatever location they seem to advance to.
  machine.StartAt(0);
  if (!machine.Run(info.common.instructions)) return false;
  machine.KeepAsInitial();
  machine.StartAt(info.pc_begin);
  return machine.Run(info.instructions) && rows->row.cfa_kind != CfiRow::kNone;
}

}  // namespace ollamatrace::capture
