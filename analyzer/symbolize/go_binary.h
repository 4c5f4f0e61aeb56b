// Finds Go's function table in an ELF file, stripped or not, static or position independent, linked
// by Go or by the C linker.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_GO_BINARY_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_GO_BINARY_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "analyzer/symbolize/elf_file.h"
#include "analyzer/symbolize/gopclntab.h"

namespace ollamatrace {

// A table and, if relocations had to be applied to it, the bytes it stands on.
class GoBinary {
 public:
  // Null when the file is no Go program, or its table cannot be found. `file`'s bytes must outlive
  // the result.
  //
  // The table is the section .gopclntab or .data.rel.ro.gopclntab; where the C linker merged it
  // into .data.rel.ro, the magic number is searched for. The addresses of the text and of the
  // funcdata come from runtime.moduledata, which is found by its first field: a pointer to the
  // table.
  static std::unique_ptr<GoBinary> Find(const ElfFile& file);

  const GoPclntab& table() const { return table_; }

 private:
  explicit GoBinary(GoPclntab table) : table_(table) {}

  GoPclntab table_;
  std::vector<uint8_t> relocated_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_GO_BINARY_H_
