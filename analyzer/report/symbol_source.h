// Where the report's names come from: the Symbolizer, or a test.
#ifndef OLLAMATRACE_ANALYZER_REPORT_SYMBOL_SOURCE_H_
#define OLLAMATRACE_ANALYZER_REPORT_SYMBOL_SOURCE_H_

#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "analyzer/symbolize/symbolizer.h"

namespace ollamatrace {

// As Symbolizer, whose header says what the functions mean.
class SymbolSource {
 public:
  virtual ~SymbolSource() = default;
  virtual ModuleIndex AddModule(const ModuleSpec& spec) = 0;
  virtual absl::Span<const Frame> Lookup(ModuleIndex module, uint64_t address,
                                         AddressKind kind) = 0;
  virtual const ModuleStatus& Status(ModuleIndex module) = 0;
};

class SymbolizerSource : public SymbolSource {
 public:
  explicit SymbolizerSource(SymbolizerOptions options) : symbolizer_(std::move(options)) {}
  ModuleIndex AddModule(const ModuleSpec& spec) override { return symbolizer_.AddModule(spec); }
  absl::Span<const Frame> Lookup(ModuleIndex module, uint64_t address, AddressKind kind) override {
    return symbolizer_.Lookup(module, address, kind);
  }
  const ModuleStatus& Status(ModuleIndex module) override { return symbolizer_.Status(module); }
  absl::Status StoreAnswers(const std::string& folder) { return symbolizer_.StoreAnswers(folder); }

 private:
  Symbolizer symbolizer_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_SYMBOL_SOURCE_H_
