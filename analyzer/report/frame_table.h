// The frames of a report: each distinct one once, found by the nodes of the traces' stacks.
#ifndef OLLAMATRACE_ANALYZER_REPORT_FRAME_TABLE_H_
#define OLLAMATRACE_ANALYZER_REPORT_FRAME_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "absl/strings/string_view.h"
#include "absl/types/span.h"
#include "analyzer/replay/process_history.h"
#include "analyzer/report/frame_paths.h"
#include "analyzer/report/report.h"
#include "analyzer/report/symbol_source.h"

namespace ollamatrace {

// Thread-compatible.
class FrameTable {
 public:
  using Path = FramePaths::Path;

  explicit FrameTable(SymbolSource& symbols) : symbols_(symbols) {}
  FrameTable(const FrameTable&) = delete;
  FrameTable& operator=(const FrameTable&) = delete;

  // The frames of a stack of `process` (the history of index `process`), inlined calls expanded. Of
  // a GPU domain the innermost is the driver's function, in the module "[GPU 0, context 1]"; frames
  // of CUPTI are left out. Ends where a node is not known, and at kMaxStackDepth nodes. What looks
  // the same is the same path.
  Path PathOf(size_t process, const ProcessHistory& history, StackId stack);
  // The same frames, innermost first.
  std::vector<uint32_t> Expand(size_t process, const ProcessHistory& history, StackId stack) {
    return paths_.Frames(PathOf(process, history, stack));
  }
  const FramePaths& paths() const { return paths_; }
  // Asks for the names of one of the process's places, as PathOf does of those that it comes by.
  void NamePlace(size_t process, const ProcessHistory& history, StackNodes::Place place) {
    Name(At(process, history), history, place);
  }

  // A frame that the caller makes up, and a path of it alone.
  uint32_t Intern(ReportFrame frame);
  Path PathOf(uint32_t frame) { return paths_.Extend(FramePaths::kEmpty, frame); }

  const ReportFrame& At(uint32_t frame) const { return frames_[frame]; }
  std::vector<ReportFrame> Take() { return std::move(frames_); }

  // The modules that were asked about and could not be named fully, by path.
  std::vector<ReportModule> Modules();

 private:
  // What two frames differ in.
  using Key = std::tuple<absl::string_view, absl::string_view, uint32_t, absl::string_view,
                         absl::string_view, uint64_t, bool>;
  static Key KeyOf(const ReportFrame& frame);
  struct Hash {
    using is_transparent = void;
    const std::vector<ReportFrame>* frames;
    size_t operator()(const ReportFrame& frame) const { return absl::Hash<Key>()(KeyOf(frame)); }
    size_t operator()(uint32_t frame) const { return (*this)((*frames)[frame]); }
  };
  struct Equal {
    using is_transparent = void;
    const std::vector<ReportFrame>* frames;
    bool operator()(uint32_t a, uint32_t b) const { return a == b; }
    bool operator()(uint32_t a, const ReportFrame& b) const {
      return KeyOf((*frames)[a]) == KeyOf(b);
    }
  };

  struct LoadedModule {
    ModuleIndex index{};
    std::string build_id;
    bool of_cupti = false;
  };
  // What is known of a process's nodes so far. By the place's number: its frames, innermost first,
  // as a part of frames_of_places_. By the node's id, where that is a dense one: its path, and of
  // how many nodes that is.
  struct Place {
    uint32_t begin = 0;
    uint32_t count = 0;  // 0: not named yet
  };
  struct Process {
    std::vector<Place> places;
    std::vector<Path> paths;
    std::vector<uint16_t> depths;  // 0: not known yet
    absl::flat_hash_map<uint32_t, LoadedModule> modules;
  };

  Process& At(size_t process, const ProcessHistory& history);
  const LoadedModule* ModuleOf(Process& process, const ProcessHistory& history, ModuleId module);
  absl::Span<const uint32_t> Name(Process& process, const ProcessHistory& history,
                                  StackNodes::Place place);
  uint32_t NameOf(const GpuPlace& place);
  Path Extend(Path outer, absl::Span<const uint32_t> frames);
  // The way that is always right: frame by frame, from the innermost.
  Path WalkAll(Process& process, const ProcessHistory& history, StackId stack);

  SymbolSource& symbols_;
  std::vector<ReportFrame> frames_;
  absl::flat_hash_set<uint32_t, Hash, Equal> ids_{0, Hash{&frames_}, Equal{&frames_}};
  FramePaths paths_;
  std::deque<Process> processes_;
  std::vector<uint32_t> frames_of_places_;
  std::map<std::pair<std::string, std::string>, ModuleIndex> modules_;  // by path and build-id
  std::vector<StackId> walk_;                                           // PathOf's own
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_FRAME_TABLE_H_
