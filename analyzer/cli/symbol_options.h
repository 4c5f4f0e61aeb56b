// Where names come from: the options that all verbs share that name frames.
#ifndef OLLAMATRACE_ANALYZER_CLI_SYMBOL_OPTIONS_H_
#define OLLAMATRACE_ANALYZER_CLI_SYMBOL_OPTIONS_H_

#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "analyzer/cli/arguments.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

// Names are kept in OLLAMATRACE_SYMBOL_CACHE ("off": nowhere), else in
// $XDG_CACHE_HOME/ollamatrace/symbols, else in ~/.cache/ollamatrace/symbols.
SymbolizerOptions StandardSymbols();

// --sysroot, --debug-dir, --no-debuginfod, --symbol-cache. They write to `symbols`: it has to
// outlive them.
std::vector<Option> SymbolOptions(SymbolizerOptions& symbols);

// Where `symbolize` stores the names for the traces in `folder`.
std::string NamesBeside(absl::string_view folder);

// With the names that are stored beside the traces that `paths` mean.
SymbolizerOptions WithNamesBeside(SymbolizerOptions symbols, const std::vector<std::string>& paths);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_CLI_SYMBOL_OPTIONS_H_
