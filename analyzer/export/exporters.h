// The report in the formats of tools that people already use.
#ifndef OLLAMATRACE_ANALYZER_EXPORT_EXPORTERS_H_
#define OLLAMATRACE_ANALYZER_EXPORT_EXPORTERS_H_

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/types/span.h"
#include "analyzer/report/renderers.h"

namespace ollamatrace {

// What a stack weighs, where a format has one weight a stack.
enum class ExportMetric {
  kLiveBytes,
  kLiveBlocks,
  kPeakBytes,
  kGrowthBytes,
  kAllocatedBytes,
  kAllocations
};

// profile.proto of pprof, compressed with gzip: inuse_space (the default), inuse_objects,
// alloc_space, alloc_objects; labels process, pid, thread, domain, verdict.
void ExportPprof(const Report& report, const OutputSink& sink);

// "process;outermost;...;innermost WEIGHT" lines: flamegraph.pl, inferno.
void ExportFolded(const Report& report, ExportMetric metric, const OutputSink& sink);

// https://www.speedscope.app/file-format-schema.json, a profile a metric.
void ExportSpeedscope(const Report& report, const OutputSink& sink);

// heaptrack's interpreted format, version 2: the live blocks, each allocated and not freed.
void ExportHeaptrack(const Report& report, const OutputSink& sink);

// Chrome's trace event format, which ui.perfetto.dev opens: counters over time, phases as slices.
void ExportPerfetto(const Report& report, const OutputSink& sink);

// RFC 4180: a row a group.
void ExportCsv(const Report& report, const OutputSink& sink);

// A database at `path`, which is made anew: session, process, grp, frame, grp_frame, sample.
// Unavailable: it cannot be written.
absl::Status ExportSqlite(const Report& report, const std::string& path);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_EXPORT_EXPORTERS_H_
