#include <string>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "analyzer/export/export_names.h"
#include "analyzer/export/exporters.h"

namespace ollamatrace {
namespace {

std::string Quoted(const std::string& text) {
  if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
  std::string quoted = "\"";
  for (const char c : text) quoted.append(c == '"' ? 2 : 1, c);
  return quoted + "\"";
}

std::string Rate(const std::optional<ReportRate>& rate) {
  return rate ? absl::StrFormat("%.1f", rate->value) : "";
}

}  // namespace

void ExportCsv(const Report& report, const OutputSink& sink) {
  sink(
      "rank,process,domain,mapping,device,counts_as_memory,thread,verdict,confidence,live_bytes,"
      "live_blocks,allocations,"
      "frees,allocated_bytes,peak_bytes,growth_bytes,bytes_per_request,bytes_per_hour,first_seen,"
      "last_seen,function,file,line,stack\r\n");
  for (const ReportGroup& group : report.groups) {
    const ReportFrame none;
    const ReportFrame& blamed =
        group.frames.empty() ? none : report.frames[group.frames[group.blamed_frame]];
    const std::string stack =
        absl::StrJoin(group.frames, ";", [&](std::string* out, uint32_t frame) {
          out->append(ExportFrameName(report.frames[frame]));
        });
    sink(absl::StrCat(group.rank, ",", Quoted(ExportProcessName(report, group)), ",", group.domain,
                      ",", group.mapping, ",", group.device ? absl::StrCat(*group.device) : "", ",",
                      group.counts_as_memory ? 1 : 0, ",", Quoted(group.thread), ",", group.verdict,
                      ",", absl::StrFormat("%.3f", group.confidence), ",", group.live_bytes, ",",
                      group.live_blocks, ",", group.allocations, ",", group.frees, ",",
                      group.allocated_bytes, ","));
    sink(absl::StrCat(group.peak_bytes, ",", group.growth_bytes, ",", Rate(group.bytes_per_request),
                      ",", Rate(group.bytes_per_hour), ",",
                      absl::StrFormat("%.6f,%.6f", group.first_seen, group.last_seen), ",",
                      Quoted(group.frames.empty() ? "" : ExportFrameName(blamed)), ",",
                      Quoted(blamed.file), ",", blamed.line, ",", Quoted(stack), "\r\n"));
  }
}

}  // namespace ollamatrace
