// A session that tests of the report share: no files, no clock, no symbols of this machine.
#ifndef OLLAMATRACE_ANALYZER_REPORT_EXAMPLE_SESSION_H_
#define OLLAMATRACE_ANALYZER_REPORT_EXAMPLE_SESSION_H_

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "analyzer/replay/replay.h"
#include "analyzer/replay/session_history.h"
#include "analyzer/report/symbol_source.h"

namespace ollamatrace {

inline constexpr uint64_t kExampleSecond = 1'000'000'000;
inline constexpr uint64_t kExampleStart = 1000 * kExampleSecond;

// Names that a test made up, by the module's path and the address in it.
class ExampleSymbols : public SymbolSource {
 public:
  void Add(const std::string& module, uint64_t address, std::vector<Frame> frames) {
    names_[{module, address}] = std::move(frames);
  }
  void SetStatus(const std::string& module, const ModuleStatus& status) {
    statuses_[module] = status;
  }

  ModuleIndex AddModule(const ModuleSpec& spec) override;
  absl::Span<const Frame> Lookup(ModuleIndex module, uint64_t address, AddressKind kind) override;
  const ModuleStatus& Status(ModuleIndex module) override;

 private:
  std::deque<std::string> paths_;
  std::map<std::pair<std::string, uint64_t>, std::vector<Frame>> names_;
  std::map<std::string, ModuleStatus> statuses_;
};

// A server (pid 100) that leaks 1000 bytes at each of 120 requests in a minute and a half, keeps a
// bounded cache, a table made at the start, a mapping and two that do not count as memory; it
// starts a runner (pid 200) that is killed, and a short helper (pid 300) that goes on in another
// program and frees everything there.
SessionHistory ExampleSession(const ReplayOptions& options = {});
void NameExample(ExampleSymbols& symbols);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_EXAMPLE_SESSION_H_
