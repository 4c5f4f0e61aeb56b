#include "analyzer/symbolize/gopclntab.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

constexpr uint32_t kMagic1_2 = 0xfffffffb;
constexpr uint32_t kMagic1_16 = 0xfffffffa;
constexpr uint32_t kMagic1_18 = 0xfffffff0;
constexpr uint32_t kMagic1_20 = 0xfffffff1;

// src/internal/abi/symtab.go: the indices have not changed since go1.12.
constexpr uint32_t kPcdataInlineTreeIndex = 2;
constexpr uint32_t kFuncdataInlineTree = 3;
constexpr uint32_t kNoFuncdata = 0xffffffff;

// The compiler's inlining budget keeps real nests below ten.
constexpr int kMaxInlineDepth = 128;

// Values are found by walking a function's pc tables. The largest generated functions have some
// hundred thousand steps; beyond this the rest of the answer stays unknown, so that no lookup in a
// damaged file takes long.
constexpr int kMaxPcSteps = 4 << 20;

template <typename T>
std::optional<T> Read(ByteSpan bytes, uint64_t offset) {
  const auto raw = Slice(bytes, offset, sizeof(T));
  if (!raw) return std::nullopt;
  T value;
  std::memcpy(&value, raw->data(), sizeof(value));
  return value;
}

std::optional<uint64_t> ReadPointer(ByteSpan bytes, uint64_t offset, uint32_t size) {
  if (size == 8) return Read<uint64_t>(bytes, offset);
  return Read<uint32_t>(bytes, offset);
}

// Base-128, at most 32 bits of value; advances `bytes`.
std::optional<uint32_t> ReadVarint(ByteSpan* bytes) {
  uint32_t value = 0;
  for (int shift = 0; shift < 35; shift += 7) {
    if (bytes->empty()) return std::nullopt;
    const uint8_t byte = bytes->front();
    bytes->remove_prefix(1);
    if (shift < 32) value |= static_cast<uint32_t>(byte & 0x7f) << shift;
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

ByteSpan From(ByteSpan bytes, uint64_t offset) {
  return offset <= bytes.size() ? bytes.subspan(offset) : ByteSpan();
}

// One node of an inline tree (runtime.inlinedCall), by layout.
struct InlinedCall {
  uint32_t name = 0;
  uint32_t parent_pc = 0;  // From the function's entry: an instruction that stands for the call.
};

std::optional<InlinedCall> InlinedCallAt(ByteSpan tree, GoVersion version, uint64_t index) {
  const bool is_1_20 = version == GoVersion::k1_20;
  const uint64_t at = index * (is_1_20 ? 16 : 20);
  const auto name = Read<uint32_t>(tree, at + (is_1_20 ? 4 : 12));
  const auto parent_pc = Read<uint32_t>(tree, at + (is_1_20 ? 8 : 16));
  if (!name || !parent_pc) return std::nullopt;
  return InlinedCall{*name, *parent_pc};
}

}  // namespace

absl::StatusOr<GoPclntab> GoPclntab::Parse(ByteSpan bytes) {
  const auto magic = Read<uint32_t>(bytes, 0);
  if (!magic || bytes.size() < 16) return absl::InvalidArgumentError("too short for a pclntab");
  GoPclntab table;
  switch (*magic) {
    case kMagic1_2:
      table.version_ = GoVersion::k1_2;
      break;
    case kMagic1_16:
      table.version_ = GoVersion::k1_16;
      break;
    case kMagic1_18:
      table.version_ = GoVersion::k1_18;
      break;
    case kMagic1_20:
      table.version_ = GoVersion::k1_20;
      break;
    default:
      return absl::InvalidArgumentError("no pclntab magic number");
  }
  table.quantum_ = bytes[6];
  table.pointer_size_ = bytes[7];
  if (bytes[4] != 0 || bytes[5] != 0 ||
      (table.quantum_ != 1 && table.quantum_ != 2 && table.quantum_ != 4) ||
      (table.pointer_size_ != 4 && table.pointer_size_ != 8)) {
    return absl::InvalidArgumentError("no pclntab header");
  }
  const uint32_t pointer = table.pointer_size_;
  const auto word = [&](uint64_t n) { return ReadPointer(bytes, 8 + n * pointer, pointer); };
  const auto damaged = [] { return absl::DataLossError("the pclntab's header lies"); };

  const auto count = word(0);
  if (!count) return damaged();
  table.function_count_ = *count;
  // Each function takes two fields in the table: no more of them than bytes.
  if (table.function_count_ == 0 || table.function_count_ > bytes.size()) return damaged();

  uint64_t field = pointer;
  if (table.version_ == GoVersion::k1_2) {
    table.functions_ = From(bytes, 8 + pointer);
    table.records_ = table.names_ = table.pc_tables_ = bytes;
    const auto files_at =
        Read<uint32_t>(table.functions_, table.function_count_ * 2 * pointer + pointer);
    if (!files_at) return damaged();
    // Here: uint32 offsets (from the table's begin) by file number; the first one is the count.
    table.files_ = From(bytes, *files_at);
  } else {
    const bool has_text_start = table.version_ >= GoVersion::k1_18;
    const uint64_t first = has_text_start ? 3 : 2;
    const auto names = word(first);
    const auto cu_files = word(first + 1);
    const auto files = word(first + 2);
    const auto pc_tables = word(first + 3);
    const auto records = word(first + 4);
    if (!names || !cu_files || !files || !pc_tables || !records) return damaged();
    if (has_text_start) {
      table.text_start_ = word(2).value_or(0);
      field = 4;
    }
    table.names_ = From(bytes, *names);
    table.cu_files_ = From(bytes, *cu_files);
    table.files_ = From(bytes, *files);
    table.pc_tables_ = From(bytes, *pc_tables);
    table.records_ = From(bytes, *records);
    table.functions_ = table.records_;
  }
  const auto functions = Slice(table.functions_, 0, (table.function_count_ * 2 + 1) * field);
  if (!functions || table.names_.empty() || table.pc_tables_.empty()) return damaged();
  table.functions_ = *functions;
  // The magic number also occurs by chance and in code that reads these tables: the first and the
  // last function have to make sense.
  if (!table.FunctionAt(0) || !table.FunctionAt(table.function_count_ - 1) ||
      table.begin_address() >= table.end_address()) {
    return damaged();
  }
  return table;
}

uint64_t GoPclntab::EntryAt(uint64_t index) const {
  // The table was checked to hold function_count_ * 2 + 1 fields.
  if (version_ >= GoVersion::k1_18) {
    return text_start_ + Read<uint32_t>(functions_, index * 8).value_or(0);
  }
  return ReadPointer(functions_, index * 2 * pointer_size_, pointer_size_).value_or(0);
}

uint64_t GoPclntab::begin_address() const { return EntryAt(0); }
uint64_t GoPclntab::end_address() const { return EntryAt(function_count_); }

std::optional<GoPclntab::Function> GoPclntab::FunctionAt(uint64_t index) const {
  const bool short_entry = version_ >= GoVersion::k1_18;
  const uint64_t field = short_entry ? 4 : pointer_size_;
  const auto record_offset = short_entry
                                 ? ReadPointer(functions_, index * 8 + 4, 4)
                                 : ReadPointer(functions_, (index * 2 + 1) * field, pointer_size_);
  if (!record_offset || *record_offset > records_.size()) return std::nullopt;
  const ByteSpan record = records_.subspan(*record_offset);

  // The record after the entry: nameoff, args, deferreturn, pcsp, pcfile, pcln, npcdata (uint32
  // each); from go1.16 on cuOffset; from go1.20 on startLine; then four bytes, the last of which is
  // nfuncdata; then the two arrays.
  const auto at = [&](uint64_t n) { return Read<uint32_t>(record, field + n * 4); };
  const auto name = at(0);
  const auto pc_to_file = at(4);
  const auto pc_to_line = at(5);
  if (!name || !pc_to_file || !pc_to_line) return std::nullopt;
  Function function;
  function.entry = EntryAt(index);
  function.record = record;
  function.name = *name;
  function.pc_to_file = *pc_to_file;
  function.pc_to_line = *pc_to_line;
  if (version_ == GoVersion::k1_2) return function;

  const auto pcdata_count = at(6);
  const auto compile_unit = at(7);
  if (!pcdata_count || !compile_unit) return std::nullopt;
  function.compile_unit = *compile_unit;
  if (version_ < GoVersion::k1_18) return function;

  const uint64_t counts = version_ == GoVersion::k1_20 ? 9 : 8;
  const auto flags = at(counts);
  if (!flags) return std::nullopt;
  const uint32_t funcdata_count = *flags >> 24;
  if (*pcdata_count > kPcdataInlineTreeIndex && funcdata_count > kFuncdataInlineTree) {
    const uint64_t pcdata = counts + 1;
    function.pc_to_inline = at(pcdata + kPcdataInlineTreeIndex).value_or(0);
    const auto offset = at(pcdata + *pcdata_count + kFuncdataInlineTree);
    if (offset && *offset != kNoFuncdata) {
      function.inline_tree_offset = *offset;
      function.inline_tree = From(funcdata_, *offset);
    }
  }
  return function;
}

std::optional<int32_t> GoPclntab::ValueAt(uint32_t table, uint64_t entry, uint64_t address,
                                          int* steps_left) const {
  // Offset 0 stands for no table.
  if (table == 0 || table >= pc_tables_.size()) return std::nullopt;
  ByteSpan bytes = pc_tables_.subspan(table);
  uint32_t value = 0xffffffff;
  uint64_t pc = entry;
  for (int step = 0; *steps_left > 0; ++step, --*steps_left) {
    const auto value_delta = ReadVarint(&bytes);
    if (!value_delta || (*value_delta == 0 && step != 0)) return std::nullopt;
    const auto pc_delta = ReadVarint(&bytes);
    if (!pc_delta) return std::nullopt;
    // Zigzag; the sum wraps as it does in Go.
    value += (*value_delta & 1) != 0 ? ~(*value_delta >> 1) : *value_delta >> 1;
    pc += uint64_t{*pc_delta} * quantum_;
    if (address < pc) return static_cast<int32_t>(value);
  }
  return std::nullopt;
}

std::string_view GoPclntab::FileAt(const Function& function, uint64_t address,
                                   int* steps_left) const {
  const auto number = ValueAt(function.pc_to_file, function.entry, address, steps_left);
  if (!number || *number < 0) return {};
  if (version_ == GoVersion::k1_2) {
    const auto count = Read<uint32_t>(files_, 0);
    if (!count || static_cast<uint32_t>(*number) >= *count) return {};
    const auto offset = Read<uint32_t>(files_, uint64_t{4} * static_cast<uint32_t>(*number));
    return offset ? CStringAt(names_, *offset, 4096) : std::string_view();
  }
  const uint64_t index = uint64_t{function.compile_unit} + static_cast<uint32_t>(*number);
  const auto offset = Read<uint32_t>(cu_files_, index * 4);
  // ~0 stands for a file that the linker left out.
  if (!offset || *offset == 0xffffffff) return {};
  return CStringAt(files_, *offset, 4096);
}

uint32_t GoPclntab::LineAt(const Function& function, uint64_t address, int* steps_left) const {
  const auto line = ValueAt(function.pc_to_line, function.entry, address, steps_left);
  return line && *line > 0 ? static_cast<uint32_t>(*line) : 0;
}

std::vector<GoFrame> GoPclntab::Find(uint64_t address) const {
  if (address < begin_address() || address >= end_address()) return {};
  // The last function that begins at or before the address. A table out of order (damage) gives
  // some function; the check below refuses it.
  uint64_t low = 0;
  uint64_t high = function_count_;
  while (high - low > 1) {
    const uint64_t middle = low + (high - low) / 2;
    if (EntryAt(middle) <= address) {
      low = middle;
    } else {
      high = middle;
    }
  }
  if (address < EntryAt(low) || address >= EntryAt(low + 1)) return {};
  const auto function = FunctionAt(low);
  if (!function) return {};

  std::vector<GoFrame> frames;
  int steps_left = kMaxPcSteps;
  uint64_t pc = address;
  if (!function->inline_tree.empty()) {
    for (int depth = 0; depth < kMaxInlineDepth; ++depth) {
      const auto index = ValueAt(function->pc_to_inline, function->entry, pc, &steps_left);
      if (!index || *index < 0) break;
      const auto call =
          InlinedCallAt(function->inline_tree, version_, static_cast<uint32_t>(*index));
      if (!call) break;
      const std::string_view name = CStringAt(names_, call->name);
      const uint64_t parent = function->entry + call->parent_pc;
      if (name.empty() || parent >= EntryAt(low + 1)) break;
      frames.push_back({name, FileAt(*function, pc, &steps_left),
                        LineAt(*function, pc, &steps_left), /*inlined=*/true});
      pc = parent;
    }
  }
  const std::string_view name = CStringAt(names_, function->name);
  if (name.empty() && frames.empty()) return {};
  frames.push_back({name, FileAt(*function, pc, &steps_left), LineAt(*function, pc, &steps_left),
                    /*inlined=*/false});
  return frames;
}

int GoPclntab::ScoreFuncdata(int limit) const {
  int score = 0;
  int seen = 0;
  for (uint64_t i = 0; i < function_count_ && seen < limit; ++i) {
    const auto function = FunctionAt(i);
    if (!function || function->pc_to_inline == 0 || !function->inline_tree_offset) continue;
    ++seen;
    // The first call of a tree: a name there is, preceded by a NUL (or the table's begin), and a
    // call site within the function.
    const auto call = InlinedCallAt(function->inline_tree, version_, 0);
    const bool sensible = call && function->entry + call->parent_pc < EntryAt(i + 1) &&
                          !CStringAt(names_, call->name).empty() &&
                          (call->name == 0 || names_[call->name - 1] == 0);
    score += sensible ? 1 : -1;
  }
  return score;
}

}  // namespace ollamatrace
