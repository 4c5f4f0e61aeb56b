// Whatever a module's bytes say: the readers that this project wrote itself (ELF, symbol tables,
// Go's tables, .gnu_debugdata, demangling) neither crash nor hang nor claim memory without bound.
#include <cstddef>
#include <cstdint>

#include "analyzer/symbolize/demangle.h"
#include "analyzer/symbolize/elf_file.h"
#include "analyzer/symbolize/go_binary.h"
#include "analyzer/symbolize/mini_debug_info.h"
#include "analyzer/symbolize/symbol_table.h"

namespace {

void LookUp(const ollamatrace::ElfFile& file) {
  using namespace ollamatrace;
  for (const uint32_t type : {SHT_SYMTAB, SHT_DYNSYM}) {
    const SymbolTable table(file, type);
    SymbolTable::AddressOf(file, type, "runtime.text");
    for (const ElfSection& section : file.sections()) {
      for (uint64_t offset = 0; offset < 256 && offset < section.size; offset += 5) {
        Demangle(table.Find(section.address + offset));
      }
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace ollamatrace;
  const auto file = ElfFile::Parse(ByteSpan(data, size));
  if (!file.ok() || file->sections().size() > 64) return 0;
  LookUp(*file);
  file->debug_link();
  file->RelativeRelocations();
  if (const auto go = GoBinary::Find(*file)) {
    const uint64_t begin = go->table().begin_address();
    for (uint64_t offset = 0; offset < 512; offset += 3) go->table().Find(begin + offset);
  }
  const auto inner = ReadMiniDebugInfo(*file);
  const auto inner_file = ElfFile::Parse(inner);
  if (inner_file.ok() && inner_file->sections().size() <= 64) LookUp(*inner_file);
  return 0;
}
