// Frames from DWARF: functions, the calls inlined into them, and lines.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_DWARF_INDEX_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_DWARF_INDEX_H_

#include <elfutils/libdw.h>

#include <cstdint>
#include <memory>
#include <string_view>
#include <vector>

#include "analyzer/symbolize/name_pool.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

// An index from addresses to compile units is made at once, the function trees of a unit when an
// address first falls into it: a lookup is then two binary searches and one in libdw's line table.
// DWARF 4 and 5, compressed sections, split units (.dwo) and dwz alternate files are libdw's work.
// Thread-compatible.
//
// libdw trusts its input more than this project's own parsers do. Give it files whose build-id was
// checked.
class DwarfIndex {
 public:
  // `fd` is an ELF file open for reading; it is not kept. Null when it has no DWARF, or none that
  // libdw reads.
  static std::unique_ptr<DwarfIndex> Open(int fd, NamePool* names);
  ~DwarfIndex();
  DwarfIndex(const DwarfIndex&) = delete;
  DwarfIndex& operator=(const DwarfIndex&) = delete;

  // The frames at `address`, innermost first; empty when no compile unit covers it. Where the unit
  // has lines there but no function (assembly), one frame without a function.
  std::vector<Frame> Find(uint64_t address);

 private:
  struct Unit;
  struct UnitRange;
  class FunctionTree;

  explicit DwarfIndex(NamePool* names);
  void IndexUnits();
  std::string_view FileName(Unit& unit, const char* name);

  NamePool* names_;
  int fd_ = -1;
  Elf* elf_ = nullptr;
  Dwarf* dwarf_ = nullptr;
  std::vector<std::unique_ptr<Unit>> units_;
  std::vector<UnitRange> ranges_;  // By low address.
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_DWARF_INDEX_H_
