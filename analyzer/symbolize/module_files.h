// Finds the files that belong to a recorded module: itself, and its separate debug file.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_MODULE_FILES_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_MODULE_FILES_H_

#include <memory>
#include <optional>

#include "analyzer/symbolize/debuginfod.h"
#include "analyzer/symbolize/elf_file.h"
#include "analyzer/symbolize/mapped_file.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

// An ELF file that stays mapped. Movable: `elf` refers to the mapping, which does not move.
struct OpenElf {
  std::unique_ptr<MappedFile> file;
  ElfFile elf;
};

struct ModuleFiles {
  std::optional<OpenElf> module;
  std::optional<OpenElf> debug;
  ModuleStatus status;  // state, message, file and debug_file are filled in.
};

// Where the files are searched is said at SymbolizerOptions. Both are the recorded build-id's, or
// found by path alone when none was recorded (kUnverified). `servers` is asked last; may be null.
ModuleFiles FindModuleFiles(const ModuleSpec& spec, const SymbolizerOptions& options,
                            Debuginfod* servers);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_MODULE_FILES_H_
