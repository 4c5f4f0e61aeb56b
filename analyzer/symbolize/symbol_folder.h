// A folder with stored symbols, a file for each module: the cache, or what lies beside a trace.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOL_FOLDER_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOL_FOLDER_H_

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "analyzer/symbolize/stored_symbols.h"

namespace ollamatrace {

// Files are named by build-id; of modules without one by their path. They appear whole or not at
// all, whoever else writes to the folder at the same time: the last one wins, and what another one
// had added is looked up again some time. Thread-safe: holds nothing but the path.
class SymbolFolder {
 public:
  explicit SymbolFolder(std::string path) : path_(std::move(path)) {}

  // What is stored of the module. Null when there is nothing, or nothing that can be used: another
  // program's file, a damaged one, or one of another version.
  std::unique_ptr<StoredSymbols> Load(const ModuleSpec& module) const;

  // Makes the folder if need be, for its owner alone. Unavailable: why it cannot be written.
  absl::Status Save(const StoredSymbolsHead& head, const SymbolAnswers& answers) const;

  // Says that the module's file was of use: Shrink takes others first.
  void Touch(const ModuleSpec& module) const;

  // Removes files that were of no use for longest until no more than `limit` bytes are left, and
  // what writers left behind that were killed. Files with other names stay.
  void Shrink(uint64_t limit) const;

 private:
  std::string FileOf(const ModuleSpec& module) const;

  std::string path_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_SYMBOL_FOLDER_H_
