#include "analyzer/symbolize/symbol_table.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace ollamatrace {
namespace {

// How far back an enclosing function is looked for when the nearest symbol ends before the address.
// Symbols inside another one are rare (hand-written assembly, coroutine parts): a few steps find
// it.
constexpr int kMaxEnclosingSteps = 16;

constexpr int kMaxTables = 8;

// Calls visit(symbol, strings) for each symbol of the tables of that type.
template <typename Visit>
void ForEachSymbol(const ElfFile& file, uint32_t section_type, Visit visit) {
  int tables = 0;
  for (const ElfSection& section : file.sections()) {
    if (section.type != section_type || section.link >= file.sections().size()) continue;
    const ElfSection& names = file.sections()[section.link];
    if (names.type != SHT_STRTAB || ++tables > kMaxTables) continue;
    const ByteSpan strings = file.Contents(names);
    const ByteSpan symbols = file.Contents(section);
    for (size_t at = 0; at + sizeof(Elf64_Sym) <= symbols.size(); at += sizeof(Elf64_Sym)) {
      Elf64_Sym symbol;
      std::memcpy(&symbol, symbols.data() + at, sizeof(symbol));
      visit(symbol, strings);
    }
  }
}

}  // namespace

SymbolTable::SymbolTable(const ElfFile& file, uint32_t section_type) {
  ForEachSymbol(file, section_type, [&](const Elf64_Sym& symbol, ByteSpan strings) {
    const uint8_t type = ELF64_ST_TYPE(symbol.st_info);
    if (type != STT_FUNC && type != STT_NOTYPE && type != STT_GNU_IFUNC) return;
    // An index from SHN_LORESERVE on is not a section: absolute and common symbols are no
    // functions. SHN_XINDEX (more than 65279 sections) does not occur in linked modules.
    if (symbol.st_shndx == SHN_UNDEF || symbol.st_shndx >= file.sections().size()) return;
    const ElfSection& section = file.sections()[symbol.st_shndx];
    if ((section.flags & SHF_EXECINSTR) == 0) return;
    const uint64_t section_end = section.address + section.size;
    if (symbol.st_value < section.address || symbol.st_value >= section_end) return;
    // Only the first character is looked at: names are read when they are asked for. '$' begins the
    // mapping symbols of aarch64 ($x, $d).
    if (symbol.st_name == 0 || symbol.st_name >= strings.size()) return;
    const char first = static_cast<char>(strings[symbol.st_name]);
    if (first == '\0' || (type == STT_NOTYPE && first == '$')) return;

    if (strings_.empty() || strings_.back().data() != strings.data()) strings_.push_back(strings);
    const uint8_t binding = ELF64_ST_BIND(symbol.st_info);
    const bool sized = symbol.st_size != 0;
    const uint8_t by_binding = binding == STB_GLOBAL ? 0 : binding == STB_WEAK ? 1 : 2;
    const uint8_t by_kind = type == STT_NOTYPE ? 4 : 0;
    const uint8_t by_size = sized ? 0 : 8;
    const uint64_t end =
        sized ? symbol.st_value + std::min(symbol.st_size, section_end - symbol.st_value)
              : section_end;
    functions_.push_back({.start = symbol.st_value,
                          .end = end,
                          .name = symbol.st_name,
                          .strings = static_cast<uint16_t>(strings_.size() - 1),
                          .preference = static_cast<uint8_t>(by_size + by_kind + by_binding),
                          .sized = sized});
  });
  // Stable: among equals the table's order decides, so that the answer does not change from run to
  // run.
  std::stable_sort(functions_.begin(), functions_.end(), [](const Function& a, const Function& b) {
    return std::tie(a.start, a.preference) < std::tie(b.start, b.preference);
  });
  functions_.erase(
      std::unique(functions_.begin(), functions_.end(),
                  [](const Function& a, const Function& b) { return a.start == b.start; }),
      functions_.end());
  // A label inside a function that has a size is a place in it, not a function.
  uint64_t covered_to = 0;
  functions_.erase(std::remove_if(functions_.begin(), functions_.end(),
                                  [&](const Function& f) {
                                    if (!f.sized) return f.start < covered_to;
                                    covered_to = std::max(covered_to, f.end);
                                    return false;
                                  }),
                   functions_.end());
  // What has no size reaches to its neighbour.
  for (size_t i = 0; i + 1 < functions_.size(); ++i) {
    if (!functions_[i].sized) {
      functions_[i].end = std::min(functions_[i].end, functions_[i + 1].start);
    }
  }
  functions_.shrink_to_fit();
}

std::string_view SymbolTable::Find(uint64_t address) const {
  auto it = std::upper_bound(functions_.begin(), functions_.end(), address,
                             [](uint64_t a, const Function& f) { return a < f.start; });
  for (int step = 0; it != functions_.begin() && step < kMaxEnclosingSteps; ++step) {
    --it;
    if (address < it->end) return CStringAt(strings_[it->strings], it->name);
  }
  return {};
}

uint64_t SymbolTable::AddressOf(const ElfFile& file, uint32_t section_type, std::string_view name) {
  uint64_t result = 0;
  ForEachSymbol(file, section_type, [&](const Elf64_Sym& symbol, ByteSpan strings) {
    if (result != 0 || symbol.st_shndx == SHN_UNDEF) return;
    const auto candidate = Slice(strings, symbol.st_name, name.size() + 1);
    if (candidate && (*candidate)[name.size()] == 0 &&
        std::memcmp(candidate->data(), name.data(), name.size()) == 0) {
      result = symbol.st_value;
    }
  });
  return result;
}

}  // namespace ollamatrace
