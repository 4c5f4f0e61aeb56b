// The names of one module: from its files, and from what is stored of earlier times.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_MODULE_NAMES_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_MODULE_NAMES_H_

#include <cstdint>
#include <memory>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/types/span.h"
#include "analyzer/symbolize/debuginfod.h"
#include "analyzer/symbolize/name_pool.h"
#include "analyzer/symbolize/stored_symbols.h"
#include "analyzer/symbolize/symbol_folder.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

// The module's files, opened.
class FileNames;

// The files are looked for only where they may tell more than what is stored: when the stored names
// are none of the best kind, when the files they came from have changed, or for an address that is
// not among them. Thread-compatible; opens nothing before it is asked something.
class ModuleNames {
 public:
  // `options` and `names` have to outlive it, as has `servers`, which may be null.
  ModuleNames(ModuleSpec spec, const SymbolizerOptions& options, Debuginfod* servers,
              NamePool* names);
  ~ModuleNames();

  // As Symbolizer::Lookup and Status; `address` is looked up as it is.
  absl::Span<const Frame> Lookup(uint64_t address);
  const ModuleStatus& Status();

  // Whether there is something to save that is not stored yet.
  bool HasNews() const;
  // Writes what is stored and what is new to `folder`; nothing where nothing is known.
  absl::Status Save(const SymbolFolder& folder) const;

 private:
  void Prepare();
  void LoadStored();
  bool FilesMayTellMore() const;
  bool FilesMayBeOthers() const;
  void OpenFiles();
  bool FilesCount() const;

  const ModuleSpec spec_;
  const SymbolizerOptions& options_;
  Debuginfod* const servers_;
  NamePool* const names_;

  bool prepared_ = false;
  std::unique_ptr<StoredSymbols> stored_;                    // may be null
  bool beside_trace_ = false;                                // where stored_ came from
  std::unique_ptr<FileNames> files_;                         // null until they are needed
  absl::flat_hash_map<uint64_t, std::vector<Frame>> fresh_;  // answers of files_
  ModuleStatus status_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_MODULE_NAMES_H_
