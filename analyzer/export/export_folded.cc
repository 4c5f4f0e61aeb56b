#include <string>

#include "absl/strings/str_cat.h"
#include "analyzer/export/export_names.h"
#include "analyzer/export/exporters.h"

namespace ollamatrace {
namespace {

// A frame's separator and a line's end cannot be part of a name.
void AppendName(std::string name, std::string& line) {
  for (char& c : name) {
    if (c == ';') c = ':';
    if (static_cast<unsigned char>(c) < 0x20) c = '?';
  }
  line += name;
}

}  // namespace

void ExportFolded(const Report& report, ExportMetric metric, const OutputSink& sink) {
  for (const ReportGroup& group : report.groups) {
    const uint64_t weight = ExportWeight(group, metric);
    if (weight == 0 || !CountsAsMemory(group)) continue;
    std::string line;
    AppendName(ExportProcessName(report, group), line);
    for (auto frame = group.frames.rbegin(); frame != group.frames.rend(); ++frame) {
      line += ';';
      AppendName(ExportFrameName(report.frames[*frame]), line);
    }
    if (group.frames.empty()) line += ";(no stack)";
    sink(absl::StrCat(line, " ", weight, "\n"));
  }
}

}  // namespace ollamatrace
