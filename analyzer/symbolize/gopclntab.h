// Go's run-time function table, .gopclntab: what names Go's functions and lines in a binary without
// symbols and without DWARF.
//
// Layouts: go1.2 (to 1.15), go1.16 (to 1.17), go1.18 (to 1.19), go1.20 and later, told apart by the
// magic number. Source: src/debug/gosym/pclntab.go, src/runtime/symtab.go and
// src/cmd/link/internal/ld/pcln.go of the Go distribution. Inlined calls are expanded for go1.18
// and later, when the caller knows where the funcdata begins.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_GOPCLNTAB_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_GOPCLNTAB_H_

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "analyzer/symbolize/elf_file.h"

namespace ollamatrace {

enum class GoVersion : uint8_t { k1_2, k1_16, k1_18, k1_20 };

struct GoFrame {
  std::string_view function;  // Go's names need no demangling: "main.(*T).Method".
  std::string_view file;      // Empty when unknown.
  uint32_t line = 0;          // 0 when unknown.
  bool inlined = false;
};

// Refers to the bytes it was made from; they must outlive it. Nothing read from them is believed
// before it is checked; work and memory are bounded by their size.
class GoPclntab {
 public:
  // `bytes` begin at the table's magic number; what follows the table does no harm.
  static absl::StatusOr<GoPclntab> Parse(ByteSpan bytes);

  GoVersion version() const { return version_; }
  uint64_t function_count() const { return function_count_; }

  // Where the functions' addresses count from: from the header (go1.18 to 1.25; 0 in later ones).
  // Older tables hold whole addresses.
  uint64_t text_start() const { return text_start_; }
  void set_text_start(uint64_t address) { text_start_ = address; }
  bool needs_text_start() const { return version_ >= GoVersion::k1_18 && text_start_ == 0; }

  // The bytes from `go:func.*` (moduledata.gofunc) on: enables inlined frames. go1.18 and later
  // only.
  void set_funcdata(ByteSpan funcdata) { funcdata_ = funcdata; }

  // How many of the first `limit` functions with inlined calls have an inline tree that makes sense
  // under the present set_funcdata, less those that have none. Positive for the right place: this
  // is how a reader that cannot know it chooses among candidates.
  int ScoreFuncdata(int limit) const;

  // The addresses of the first function and behind the last one.
  uint64_t begin_address() const;
  uint64_t end_address() const;

  // The frames at `address`, innermost first; empty when no function of this table covers it.
  std::vector<GoFrame> Find(uint64_t address) const;

 private:
  struct Function {
    uint64_t entry = 0;
    ByteSpan record;          // The _func struct and what follows it.
    uint32_t name = 0;        // Offset in names_.
    uint32_t pc_to_file = 0;  // Offsets in pc_tables_.
    uint32_t pc_to_line = 0;
    uint32_t compile_unit = 0;                   // Index into cu_files_.
    uint32_t pc_to_inline = 0;                   // 0 when the function has no inlined calls.
    ByteSpan inline_tree;                        // Empty when unknown.
    std::optional<uint32_t> inline_tree_offset;  // In funcdata.
  };

  uint64_t EntryAt(uint64_t index) const;
  std::optional<Function> FunctionAt(uint64_t index) const;
  // The value of a pc-value table at `address`: nothing when the table is absent, damaged or ends
  // before it. `steps_left` counts down with the work.
  std::optional<int32_t> ValueAt(uint32_t table, uint64_t entry, uint64_t address,
                                 int* steps_left) const;
  std::string_view FileAt(const Function& function, uint64_t address, int* steps_left) const;
  uint32_t LineAt(const Function& function, uint64_t address, int* steps_left) const;

  GoVersion version_ = GoVersion::k1_20;
  uint32_t pointer_size_ = 8;
  uint32_t quantum_ = 1;  // The least size of an instruction: 1 on x86-64, 4 on aarch64.
  uint64_t function_count_ = 0;
  uint64_t text_start_ = 0;
  ByteSpan functions_;  // function_count_ pairs (entry, record offset), and the end address.
  ByteSpan records_;    // What the record offsets count from.
  ByteSpan names_;
  ByteSpan
      cu_files_;  // uint32: compile unit and file number to an offset in files_. go1.16 and later.
  ByteSpan files_;
  ByteSpan pc_tables_;
  ByteSpan funcdata_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_GOPCLNTAB_H_
