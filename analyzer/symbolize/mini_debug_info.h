// .gnu_debugdata: the symbol table that Fedora and its kin leave in stripped files, compressed with
// xz.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_MINI_DEBUG_INFO_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_MINI_DEBUG_INFO_H_

#include <cstdint>
#include <vector>

#include "analyzer/symbolize/elf_file.h"

namespace ollamatrace {

// The ELF file within; empty when there is none, when it is damaged or larger than 64 MiB, or when
// this build has no liblzma.
std::vector<uint8_t> ReadMiniDebugInfo(const ElfFile& file);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_MINI_DEBUG_INFO_H_
