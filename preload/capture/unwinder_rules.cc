#include "preload/capture/unwinder_rules.h"

#include <cstring>

namespace ollamatrace::capture {

constinit RuleBucket g_rule_buckets[1 << kRuleBucketBits] = {};

namespace {

void RememberRule(uintptr_t address, uint32_t generation, UnwindRule rule) {
  RuleBucket& bucket = RuleBucketOf(address);
  uint32_t sequence = bucket.sequence.load(std::memory_order_relaxed);
  if ((sequence & 1) != 0 ||
      !bucket.sequence.compare_exchange_strong(sequence, sequence + 1, std::memory_order_acquire,
                                               std::memory_order_relaxed)) {
    return;
  }
  std::atomic_thread_fence(std::memory_order_release);
  const uint32_t entry = bucket.next.load(std::memory_order_relaxed) % RuleBucket::kEntries;
  bucket.next.store(entry + 1, std::memory_order_relaxed);
  bucket.keys[entry].store(uint64_t{address} << 16 | generation, std::memory_order_relaxed);
  bucket.rules[entry].store(__builtin_bit_cast(uint64_t, rule), std::memory_order_relaxed);
  bucket.sequence.store(sequence + 2, std::memory_order_release);
}

UnwindRule FramePointerRule(const ModuleTables& tables) {
  UnwindRule rule;
  rule.cfa_kind = UnwindRule::kFramePointer;
  if (tables.known_go) rule.set_may_switch();
  return rule;
}

#if defined(__x86_64__)

// The code around a program counter.
struct CodeBytes {
  static constexpr int kBefore = 7;
  static constexpr int kAfter = 9;
  uint8_t bytes[kBefore + kAfter];

  const uint8_t* at_pc() const { return bytes + kBefore; }
};

// False where the code cannot be read (execute-only memory, or a mapping that has gone).
bool ReadCode(uintptr_t pc, const MemoryRegion& code, bool known_readable, CodeBytes* out) {
  const uintptr_t begin = pc - CodeBytes::kBefore;
  const uintptr_t end = pc + CodeBytes::kAfter;
  if (begin > pc || begin < code.begin || end > code.end) return false;
  if (!known_readable && ReadableUpTo(PageOf(begin), end) < end) return false;
  std::memcpy(out->bytes, reinterpret_cast<const void*>(begin), sizeof(out->bytes));
  return true;
}

// CALL rel32 (E8), or CALL r/m64 (FF /2) in any of its lengths. Intel SDM volume 2, "CALL".
bool FollowsCall(const CodeBytes& code) {
  const uint8_t* pc = code.at_pc();
  if (pc[-5] == 0xe8) return true;
  for (int length = 2; length <= CodeBytes::kBefore; ++length) {
    const uint8_t* op = pc - length;
    if (op[0] != 0xff || ((op[1] >> 3) & 7) != 2) continue;
    const int mode = op[1] >> 6;
    const int rm = op[1] & 7;
    int wanted = 2;
    if (mode != 3) {
      const bool has_sib = rm == 4;
      if (has_sib) ++wanted;
      if (mode == 1) wanted += 1;
      if (mode == 2 || (mode == 0 && rm == 5)) wanted += 4;
      if (mode == 0 && has_sib && length >= 3 && (op[2] & 7) == 5) wanted += 4;
    }
    if (wanted == length) return true;
  }
  return false;
}

// mov $__NR_rt_sigreturn, %rax; syscall: where a signal handler returns to when its libc (or Go's
// runtime) wrote no CFI for it.
bool IsSignalReturn(const CodeBytes& code) {
  static constexpr uint8_t kSignalReturn[] = {0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05};
  return std::memcmp(code.at_pc(), kSignalReturn, sizeof(kSignalReturn)) == 0;
}

// The stack pointer there is the address of a struct ucontext (<asm/ucontext.h>).
UnwindRule SignalReturnRule() {
  constexpr int kRsp = 160;
  constexpr int kRbp = 120;
  UnwindRule rule;
  rule.cfa_kind = UnwindRule::kSignal;
  rule.cfa_offset = kRsp;
  rule.set_bp(UnwindRule::kBpAtSp, kRbp / 8);
  return rule;
}

UnwindRule RuleOfCode(uintptr_t address, bool exact, const ModuleTables& tables,
                      const MemoryRegion& code_region, RuleWorkspace* workspace) {
  CodeBytes code;
  const uintptr_t pc = exact ? address : address + 1;
  const bool readable = ReadCode(pc, code_region, tables.code_readable, &code);
  UnwindRule rule;
  if (FindCfiRow(tables, address, &workspace->info, &workspace->rows)) {
    rule = CompileRule(workspace->rows.row, workspace->info.common.signal_frame, address);
  } else if (readable && IsSignalReturn(code)) {
    rule = SignalReturnRule();
  } else {
    rule = FramePointerRule(tables);
  }
  if (readable && !exact && FollowsCall(code)) rule.set_after_call();
  return rule;
}

#else  // frame pointers only

UnwindRule RuleOfCode(uintptr_t, bool, const ModuleTables& tables, const MemoryRegion&,
                      RuleWorkspace*) {
  UnwindRule rule = FramePointerRule(tables);
  rule.set_after_call();
  return rule;
}

#endif

// Whether `address` lies in executable memory outside all modules.
bool FindOtherCode(uintptr_t address, uint32_t generation, RuleWorkspace* workspace,
                   MemoryRegion* region) {
  if (workspace->code_generation != generation) {
    for (MemoryRegion& known : workspace->code) known = MemoryRegion();
    workspace->code_generation = generation;
  }
  for (const MemoryRegion& known : workspace->code) {
    if (known.Contains(address)) {
      *region = known;
      return true;
    }
  }
  if (!FindExecutableRegion(address, region)) return false;
  workspace->code[workspace->next_code++ % RuleWorkspace::kCodeRegions] = *region;
  return true;
}

UnwindRule WorkOutRuleIn(uintptr_t address, bool exact, uint32_t generation,
                         RuleWorkspace* workspace) {
  UnwindRule rule;  // kNotCode
  if (address < kPageBytes || address >= kAddressLimit) return rule;
  ModuleTables tables;
  const ModuleLookup lookup = FindModule(address, &tables);
  MemoryRegion code = {tables.code_begin, tables.code_end};
  if (code.Contains(address) || FindOtherCode(address, generation, workspace, &code)) {
    rule = RuleOfCode(address, exact, tables, code, workspace);
    if (tables.hidden) rule.set_hidden();
  }
  if (lookup != ModuleLookup::kBusy) RememberRule(address, generation, rule);
  return rule;
}

__attribute__((noinline)) UnwindRule WorkOutRuleOnStack(uintptr_t address, bool exact,
                                                        uint32_t generation) {
  RuleWorkspace workspace = {};
  return WorkOutRuleIn(address, exact, generation, &workspace);
}

}  // namespace

bool FindCfiRow(const ModuleTables& tables, uintptr_t pc, FrameInfo* info, CfiRows* rows) {
  if (!tables.cfi.empty() && FindFrameInfo(tables.cfi, pc, info)) {
    return RunCfiProgram(*info, pc, rows);
  }
  return tables.debug_frame != nullptr &&
         FindFrameInfo(*tables.debug_frame, pc - tables.bias, info) &&
         RunCfiProgram(*info, pc - tables.bias, rows);
}

__attribute__((noinline)) UnwindRule WorkOutRule(uintptr_t address, bool exact, uint32_t generation,
                                                 RuleWorkspace* workspace) {
  if (workspace == nullptr) return WorkOutRuleOnStack(address, exact, generation);
  return WorkOutRuleIn(address, exact, generation, workspace);
}

}  // namespace ollamatrace::capture
