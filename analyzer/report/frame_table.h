// The frames of a report: each distinct one once, found by the nodes of the traces' stacks.
#ifndef OLLAMATRACE_ANALYZER_REPORT_FRAME_TABLE_H_
#define OLLAMATRACE_ANALYZER_REPORT_FRAME_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "analyzer/replay/process_history.h"
#include "analyzer/report/report.h"
#include "analyzer/report/symbol_source.h"

namespace ollamatrace {

class FrameTable {
 public:
  explicit FrameTable(SymbolSource& symbols) : symbols_(symbols) {}

  // The frames of a stack of `process` (the history of index `process`), innermost first, inlined
  // calls expanded. Of a GPU domain the first is the driver's function, in the module "[GPU 0,
  // context 1]"; frames of CUPTI are left out. Ends where a node is not known, and at
  // kMaxStackDepth nodes.
  std::vector<uint32_t> Expand(size_t process, const ProcessHistory& history, StackId stack);

  // A frame that the caller makes up.
  uint32_t Intern(ReportFrame frame);

  const ReportFrame& At(uint32_t frame) const { return frames_[frame]; }
  std::vector<ReportFrame> Take() { return std::move(frames_); }

  // The modules that were asked about and could not be named fully, by path.
  std::vector<ReportModule> Modules();

 private:
  const std::vector<uint32_t>& Name(size_t process, const ProcessHistory& history, uint32_t id,
                                    const Node& node);

  uint32_t NamePlace(const GpuPlace& place);

  SymbolSource& symbols_;
  std::vector<ReportFrame> frames_;
  // function, file, line, module, build-id, offset, inlined
  using Key =
      std::tuple<std::string, std::string, uint32_t, std::string, std::string, uint64_t, bool>;
  absl::flat_hash_map<Key, uint32_t> ids_;
  absl::flat_hash_map<std::pair<size_t, uint32_t>, std::vector<uint32_t>>
      named_;                                                           // by process and node
  std::map<std::pair<std::string, std::string>, ModuleIndex> modules_;  // by path and build-id
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_FRAME_TABLE_H_
