// The functions of one ELF symbol table (.symtab or .dynsym), by address.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOL_TABLE_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOL_TABLE_H_

#include <cstdint>
#include <string_view>
#include <vector>

#include "analyzer/symbolize/elf_file.h"

namespace ollamatrace {

// Immutable once built. Refers to the file's bytes for the names.
class SymbolTable {
 public:
  SymbolTable() = default;

  // Reads the sections of type `section_type` (SHT_SYMTAB or SHT_DYNSYM). Symbols that cannot be
  // functions are left out. Damage leaves symbols out; it is never an error.
  SymbolTable(const ElfFile& file, uint32_t section_type);

  bool empty() const { return functions_.empty(); }
  size_t size() const { return functions_.size(); }

  // The raw (mangled) name of the function at `address`: the innermost one whose size covers it,
  // else the nearest one before it that has no size, up to the next symbol or the end of its
  // section. Empty when there is none.
  std::string_view Find(uint64_t address) const;

  // The address of the symbol of that exact name, whatever its type; 0 when there is none. Reads
  // the whole table.
  static uint64_t AddressOf(const ElfFile& file, uint32_t section_type, std::string_view name);

 private:
  struct Function {
    uint64_t start;
    uint64_t end;        // Exclusive.
    uint32_t name;       // Offset in the string table below.
    uint16_t strings;    // Index into strings_.
    uint8_t preference;  // Among functions with one start, the smallest wins.
    bool sized;          // Whether the symbol itself gave `end`.
  };
  std::vector<Function> functions_;  // By start; one per start.
  std::vector<ByteSpan> strings_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOL_TABLE_H_
