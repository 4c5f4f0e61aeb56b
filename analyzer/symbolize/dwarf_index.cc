#include "analyzer/symbolize/dwarf_index.h"

#include <dwarf.h>
#include <fcntl.h>
#include <libelf.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <optional>
#include <string>
#include <tuple>
#include <unordered_map>

namespace ollamatrace {
namespace {

constexpr uint32_t kNone = 0xffffffff;

// Source nests scopes some dozens deep; templates and inlining make hundreds. Deeper than this is
// damage.
constexpr size_t kMaxDepth = 2048;

// Bytes of entries in one unit. The largest ones known (whole programs by LTO) have some dozen MiB.
constexpr size_t kMaxUnitBytes = 256 << 20;

// All address ranges of one file. The largest modules in use have some millions.
constexpr size_t kMaxRanges = 8 << 20;

// A qualified name of more characters loses its outer scopes.
constexpr size_t kMaxQualifier = 4096;

// Bytes from the unit's header to the next unit, as the section says.
size_t UnitBytes(Dwarf* dwarf, Dwarf_Die* unit) {
  const Dwarf_Off begin = dwarf_dieoffset(unit) - dwarf_cuoffset(unit);
  Dwarf_Off next = 0;
  size_t header_bytes = 0;
  if (dwarf_next_unit(dwarf, begin, &next, &header_bytes, nullptr, nullptr, nullptr, nullptr,
                      nullptr, nullptr) != 0 ||
      next <= begin) {
    return 0;
  }
  return std::min<size_t>(next - begin, kMaxUnitBytes);
}

// Calls visit(low, high) for each non-empty range of the entry.
template <typename Visit>
void ForEachRange(Dwarf_Die* die, size_t* budget, Visit visit) {
  Dwarf_Addr base = 0;
  Dwarf_Addr low = 0;
  Dwarf_Addr high = 0;
  ptrdiff_t offset = 0;
  while (*budget > 0 && (offset = dwarf_ranges(die, offset, &base, &low, &high)) > 0) {
    --*budget;
    // Functions that the linker dropped are left at address 0 (or ~0, after lld).
    if (low < high && low != 0) visit(low, high);
  }
}

std::optional<uint64_t> Unsigned(Dwarf_Die* die, unsigned name) {
  Dwarf_Attribute attribute;
  Dwarf_Word value;
  if (dwarf_attr(die, name, &attribute) == nullptr || dwarf_formudata(&attribute, &value) != 0) {
    return std::nullopt;
  }
  return value;
}

const char* Text(Dwarf_Die* die, unsigned name) {
  Dwarf_Attribute attribute;
  if (dwarf_attr_integrate(die, name, &attribute) == nullptr) return nullptr;
  return dwarf_formstring(&attribute);
}

bool HoldsFunctions(int tag) {
  switch (tag) {
    case DW_TAG_namespace:
    case DW_TAG_module:
    case DW_TAG_subprogram:
    case DW_TAG_inlined_subroutine:
    case DW_TAG_lexical_block:
    case DW_TAG_structure_type:
    case DW_TAG_class_type:
    case DW_TAG_union_type:
      return true;
    default:
      return false;
  }
}

bool QualifiesNames(int tag) {
  return tag == DW_TAG_namespace || tag == DW_TAG_structure_type || tag == DW_TAG_class_type ||
         tag == DW_TAG_union_type;
}

}  // namespace

// The functions of one compile unit, with the calls inlined into them.
class DwarfIndex::FunctionTree {
 public:
  struct Function {
    Dwarf_Die die;
    uint32_t caller;  // For an inlined call: the function it was inlined into. Else kNone.
    bool inlined;
  };

  FunctionTree(Dwarf_Die unit, size_t size_limit) {
    // Each entry takes a byte at least: more entries than bytes is a loop (DW_AT_sibling may point
    // backwards in a damaged file).
    entries_left_ = size_limit;
    ranges_left_ = std::min(kMaxRanges, size_limit * 16);
    Walk(unit);
    Flatten();
  }

  // The innermost function that covers the address; kNone when there is none.
  uint32_t Find(uint64_t address) const {
    const auto it = std::upper_bound(pieces_.begin(), pieces_.end(), address,
                                     [](uint64_t a, const Piece& p) { return a < p.low; });
    return it == pieces_.begin() ? kNone : std::prev(it)->function;
  }

  Function& function(uint32_t index) { return functions_[index]; }

  // "ns::Class::" for the declaration at that offset; empty when it stands alone.
  std::string Qualifier(Dwarf_Off declaration) const {
    std::string text;
    const auto it = qualifiers_.find(declaration);
    if (it == qualifiers_.end()) return text;
    for (uint32_t i = it->second; i != 0 && text.size() < kMaxQualifier; i = scopes_[i].parent) {
      const char* name = scopes_[i].name;
      text.insert(
          0,
          std::string(name != nullptr ? name : "(anonymous namespace)", 0, kMaxQualifier) + "::");
    }
    return text;
  }

 private:
  struct Range {
    uint64_t low;
    uint64_t high;
    uint32_t depth;
    uint32_t function;
  };
  struct Piece {  // Reaches to the next piece.
    uint64_t low;
    uint32_t function;
  };
  struct Scope {
    uint32_t parent;   // Index into scopes_; 0 is the unit.
    const char* name;  // libdw's; null in an anonymous one.
  };
  struct Level {
    Dwarf_Die die;
    uint32_t function;  // The function these entries stand in.
    uint32_t scope;     // Index into scopes_.
  };

  void Walk(Dwarf_Die unit) {
    scopes_.push_back({0, nullptr});
    std::vector<Level> levels;
    Dwarf_Die child;
    if (dwarf_child(&unit, &child) != 0) return;
    levels.push_back({child, kNone, 0});
    while (!levels.empty() && entries_left_-- > 0) {
      Level here = levels.back();
      const int tag = dwarf_tag(&here.die);
      uint32_t function = here.function;
      uint32_t scope = here.scope;
      if (tag == DW_TAG_subprogram || tag == DW_TAG_inlined_subroutine) {
        const bool inlined = tag == DW_TAG_inlined_subroutine;
        if (!inlined && scope != 0) qualifiers_.emplace(dwarf_dieoffset(&here.die), scope);
        function = Add(&here.die, inlined ? here.function : kNone, inlined,
                       static_cast<uint32_t>(levels.size()));
      } else if (QualifiesNames(tag)) {
        scopes_.push_back({scope, dwarf_diename(&here.die)});
        scope = static_cast<uint32_t>(scopes_.size() - 1);
      }
      // Advance this level before the children take `levels` over.
      Dwarf_Die next;
      const bool has_next = dwarf_siblingof(&here.die, &next) == 0;
      if (has_next) {
        levels.back().die = next;
      } else {
        levels.pop_back();
      }
      if (HoldsFunctions(tag) && levels.size() < kMaxDepth && dwarf_child(&here.die, &child) == 0) {
        levels.push_back({child, function, scope});
      }
    }
  }

  uint32_t Add(Dwarf_Die* die, uint32_t caller, bool inlined, uint32_t depth) {
    const uint32_t index = static_cast<uint32_t>(functions_.size());
    bool has_code = false;
    ForEachRange(die, &ranges_left_, [&](Dwarf_Addr low, Dwarf_Addr high) {
      ranges_.push_back({low, high, depth, index});
      has_code = true;
    });
    // Declarations and abstract instances have no code; what is nested in them may.
    if (!has_code) return caller;
    functions_.push_back({*die, caller, inlined});
    return index;
  }

  // Nested ranges become pieces side by side, each with its innermost function.
  void Flatten() {
    std::stable_sort(ranges_.begin(), ranges_.end(), [](const Range& a, const Range& b) {
      return std::tie(a.low, a.depth, b.high) < std::tie(b.low, b.depth, a.high);
    });
    std::vector<Range> open;
    const auto close_until = [&](uint64_t address) {
      while (!open.empty() && open.back().high <= address) {
        const uint64_t end = open.back().high;
        open.pop_back();
        AddPiece(end, open.empty() ? kNone : open.back().function);
      }
    };
    for (Range range : ranges_) {
      close_until(range.low);
      // Ranges that overlap without nesting are damage; cut to their surroundings they can do no
      // harm.
      if (!open.empty()) range.high = std::min(range.high, open.back().high);
      AddPiece(range.low, range.function);
      open.push_back(range);
    }
    close_until(~uint64_t{0});
    ranges_.clear();
    ranges_.shrink_to_fit();
  }

  void AddPiece(uint64_t low, uint32_t function) {
    if (!pieces_.empty() && pieces_.back().low == low) pieces_.pop_back();
    pieces_.push_back({low, function});
  }

  size_t entries_left_ = 0;
  size_t ranges_left_ = 0;
  std::vector<Function> functions_;
  std::vector<Range> ranges_;  // Only while building.
  std::vector<Piece> pieces_;
  std::vector<Scope> scopes_;
  std::unordered_map<Dwarf_Off, uint32_t> qualifiers_;
};

struct DwarfIndex::Unit {
  Dwarf_Die die;    // Has the line table; the skeleton of a split unit.
  Dwarf_Die split;  // Has the functions.
  bool is_split = false;
  std::unique_ptr<FunctionTree> tree;  // Made at first use.

  Dwarf_Die* functions_die() { return is_split ? &split : &die; }
};

struct DwarfIndex::UnitRange {
  uint64_t low;
  uint64_t high;
  uint32_t unit;
};

DwarfIndex::DwarfIndex(NamePool* names) : names_(names) {}

std::unique_ptr<DwarfIndex> DwarfIndex::Open(int fd, NamePool* names) {
  if (elf_version(EV_CURRENT) == EV_NONE) return nullptr;
  std::unique_ptr<DwarfIndex> index(new DwarfIndex(names));
  index->fd_ = fcntl(fd, F_DUPFD_CLOEXEC, 0);
  if (index->fd_ < 0) return nullptr;
  index->elf_ = elf_begin(index->fd_, ELF_C_READ_MMAP, nullptr);
  if (index->elf_ == nullptr || elf_kind(index->elf_) != ELF_K_ELF) return nullptr;
  index->dwarf_ = dwarf_begin_elf(index->elf_, DWARF_C_READ, nullptr);
  if (index->dwarf_ == nullptr) return nullptr;
  index->IndexUnits();
  if (index->ranges_.empty()) return nullptr;
  return index;
}

DwarfIndex::~DwarfIndex() {
  units_.clear();
  if (dwarf_ != nullptr) dwarf_end(dwarf_);
  if (elf_ != nullptr) elf_end(elf_);
  if (fd_ >= 0) close(fd_);
}

void DwarfIndex::IndexUnits() {
  size_t ranges_left = kMaxRanges;
  Dwarf_CU* unit = nullptr;
  Dwarf_Die die;
  Dwarf_Die split;
  Dwarf_Off previous_offset = 0;
  uint8_t type = 0;
  while (dwarf_get_units(dwarf_, unit, &unit, nullptr, &type, &die, &split) == 0) {
    const Dwarf_Off offset = dwarf_dieoffset(&die);
    if (offset <= previous_offset) break;  // Units follow each other; type units may start anew.
    previous_offset = offset;
    if (type != DW_UT_compile && type != DW_UT_skeleton) continue;
    auto entry = std::make_unique<Unit>();
    entry->die = die;
    if (type == DW_UT_skeleton && dwarf_tag(&split) == DW_TAG_compile_unit) {
      entry->split = split;
      entry->is_split = true;
    }
    const uint32_t number = static_cast<uint32_t>(units_.size());
    ForEachRange(&die, &ranges_left, [&](Dwarf_Addr low, Dwarf_Addr high) {
      ranges_.push_back({low, high, number});
    });
    units_.push_back(std::move(entry));
  }
  std::stable_sort(ranges_.begin(), ranges_.end(),
                   [](const UnitRange& a, const UnitRange& b) { return a.low < b.low; });
}

std::string_view DwarfIndex::FileName(Unit& unit, const char* name) {
  // "???" is libdw's name for file number 0 of DWARF 4: none.
  if (name == nullptr || *name == '\0' || std::strcmp(name, "???") == 0) return {};
  std::filesystem::path path(name);
  if (path.is_relative()) {
    const char* folder = Text(&unit.die, DW_AT_comp_dir);
    if (folder != nullptr) path = std::filesystem::path(folder) / path;
  }
  return names_->Intern(path.lexically_normal().native());
}

std::vector<Frame> DwarfIndex::Find(uint64_t address) {
  auto range = std::upper_bound(ranges_.begin(), ranges_.end(), address,
                                [](uint64_t a, const UnitRange& r) { return a < r.low; });
  if (range == ranges_.begin() || address >= (--range)->high) return {};
  Unit& unit = *units_[range->unit];
  if (unit.tree == nullptr) {
    Dwarf_Die* die = unit.functions_die();
    unit.tree = std::make_unique<FunctionTree>(*die, UnitBytes(dwarf_cu_getdwarf(die->cu), die));
  }

  std::string_view file;
  uint32_t line = 0;
  if (Dwarf_Line* entry = dwarf_getsrc_die(&unit.die, address); entry != nullptr) {
    int number = 0;
    if (dwarf_lineno(entry, &number) == 0 && number > 0) line = static_cast<uint32_t>(number);
    file = FileName(unit, dwarf_linesrc(entry, nullptr, nullptr));
  }

  const auto name_of = [&](Dwarf_Die* die) -> std::string_view {
    const char* linkage = Text(die, DW_AT_linkage_name);
    if (linkage == nullptr) linkage = Text(die, DW_AT_MIPS_linkage_name);
    if (linkage != nullptr) return names_->InternDemangled(linkage);
    const char* plain = dwarf_diename(die);
    if (plain == nullptr) return {};
    // The declaration, which stands in its namespace and class, is at the end of the references.
    Dwarf_Die declaration = *die;
    for (int step = 0; step < 16; ++step) {
      Dwarf_Attribute reference;
      Dwarf_Die target;
      if ((dwarf_attr(&declaration, DW_AT_abstract_origin, &reference) == nullptr &&
           dwarf_attr(&declaration, DW_AT_specification, &reference) == nullptr) ||
          dwarf_formref_die(&reference, &target) == nullptr) {
        break;
      }
      declaration = target;
    }
    return names_->Intern(unit.tree->Qualifier(dwarf_dieoffset(&declaration)) + plain);
  };

  std::vector<Frame> frames;
  uint32_t index = unit.tree->Find(address);
  while (index != kNone && frames.size() < kMaxDepth) {
    FunctionTree::Function& function = unit.tree->function(index);
    frames.push_back({name_of(&function.die), file, line, function.inlined});
    if (function.inlined) {
      // Where the caller made the call that was inlined.
      line = static_cast<uint32_t>(Unsigned(&function.die, DW_AT_call_line).value_or(0));
      file = {};
      const auto number = Unsigned(&function.die, DW_AT_call_file);
      Dwarf_Files* files = nullptr;
      size_t count = 0;
      if (number && dwarf_getsrcfiles(unit.functions_die(), &files, &count) == 0 &&
          *number < count) {
        file = FileName(unit, dwarf_filesrc(files, *number, nullptr, nullptr));
      }
    }
    index = function.caller;
  }
  if (frames.empty() && line != 0) frames.push_back({.file = file, .line = line});
  return frames;
}

}  // namespace ollamatrace
