#include <algorithm>
#include <cmath>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "analyzer/export/export_names.h"
#include "analyzer/export/exporters.h"

namespace ollamatrace {
namespace {

// heaptrack's src/analyze/accumulatedtracedata.cpp. Numbers are hexadecimal, indices count from 1
// but for those of 'a'.
class Writer {
 public:
  Writer(const Report& report, const OutputSink& sink) : report_(report), sink_(sink) {}

  void Write() {
    Line("v 10200 2");
    const ReportProcess& process = report_.processes.front();
    std::string command = process.argv.empty() ? process.exe : "";
    for (const std::string& word : process.argv) command += (command.empty() ? "" : " ") + word;
    Line("X " + OneLine(command));
    Line("I 1000 0");
    // Over time, as heaptrack draws it, each group comes when it was first seen.
    std::vector<const ReportGroup*> groups;
    for (const ReportGroup& group : report_.groups) {
      if (CountsAsMemory(group) && group.live_blocks > 0) groups.push_back(&group);
    }
    std::stable_sort(groups.begin(), groups.end(), [](const ReportGroup* a, const ReportGroup* b) {
      return a->first_seen < b->first_seen;
    });
    for (const ReportGroup* group : groups) {
      Line(absl::StrFormat("c %x", std::llround(std::max(group->first_seen, 0.0) * 1000)));
      const uint64_t trace = Trace(*group);
      // Blocks of two sizes, so that they add up.
      const uint64_t size = group->live_bytes / group->live_blocks;
      const uint64_t larger = group->live_bytes % group->live_blocks;
      Blocks(trace, size + 1, larger);
      Blocks(trace, size, group->live_blocks - larger);
    }
    Line(absl::StrFormat("c %x", std::llround(report_.duration * 1000)));
  }

 private:
  static std::string OneLine(std::string text) {
    for (char& c : text) {
      if (static_cast<unsigned char>(c) < 0x20) c = '?';
    }
    return text;
  }
  void Line(const std::string& line) {
    sink_(line);
    sink_("\n");
  }

  uint64_t String(const std::string& text) {
    if (text.empty()) return 0;
    const auto [it, added] = strings_.try_emplace(text, strings_.size() + 1);
    if (added) Line("s " + OneLine(text));
    return it->second;
  }

  // An instruction: a frame with those that are inlined into it.
  uint64_t Instruction(const std::vector<uint32_t>& place) {
    const auto [it, added] = instructions_.try_emplace(place, instructions_.size() + 1);
    if (!added) return it->second;
    const ReportFrame& outer = report_.frames[place.back()];
    const uint64_t module = String(outer.module);
    std::string frames;
    for (const uint32_t index : place) {
      const ReportFrame& frame = report_.frames[index];
      const uint64_t function = String(ExportFrameName(frame));
      const uint64_t file = String(frame.file);
      frames += absl::StrFormat(" %x %x %x", function, file, frame.line);
    }
    Line(absl::StrFormat("i %x %x%s", outer.offset, module, frames));
    return it->second;
  }

  uint64_t Trace(const ReportGroup& group) {
    // Outermost first: a node's parent comes before it.
    uint64_t parent = Node(Process(group), 0);
    std::vector<std::vector<uint32_t>> places(1);
    for (const uint32_t frame : group.frames) {
      places.back().push_back(frame);
      if (!report_.frames[frame].inlined) places.emplace_back();
    }
    if (places.back().empty()) places.pop_back();
    for (auto place = places.rbegin(); place != places.rend(); ++place) {
      parent = Node(Instruction(*place), parent);
    }
    return parent;
  }

  // heaptrack knows one process: it is the outermost frame here.
  uint64_t Process(const ReportGroup& group) {
    const std::string name = ExportProcessName(report_, group);
    const auto [it, added] = processes_.try_emplace(name, 0);
    if (added) {
      const uint64_t function = String(name);
      it->second = instructions_.size() + 1;
      instructions_.try_emplace({~uint32_t{0}, static_cast<uint32_t>(processes_.size())},
                                it->second);
      Line(absl::StrFormat("i 0 0 %x 0 0", function));
    }
    return it->second;
  }

  uint64_t Node(uint64_t instruction, uint64_t parent) {
    const auto [it, added] = nodes_.try_emplace({instruction, parent}, nodes_.size() + 1);
    if (added) Line(absl::StrFormat("t %x %x", instruction, parent));
    return it->second;
  }

  void Blocks(uint64_t trace, uint64_t size, uint64_t count) {
    if (count == 0) return;
    Line(absl::StrFormat("a %x %x", size, trace));
    const std::string line = absl::StrFormat("+ %x\n", infos_++);
    std::string lines;
    for (uint64_t i = 0; i < count; ++i) {
      lines += line;
      if (lines.size() > (size_t{1} << 16)) {
        sink_(lines);
        lines.clear();
      }
    }
    sink_(lines);
  }

  const Report& report_;
  const OutputSink& sink_;
  absl::flat_hash_map<std::string, uint64_t> strings_;
  std::map<std::vector<uint32_t>, uint64_t> instructions_;
  std::map<std::string, uint64_t> processes_;
  std::map<std::pair<uint64_t, uint64_t>, uint64_t> nodes_;
  uint64_t infos_ = 0;
};

}  // namespace

void ExportHeaptrack(const Report& report, const OutputSink& sink) { Writer(report, sink).Write(); }

}  // namespace ollamatrace
