// What a Report looks like.
#ifndef OLLAMATRACE_ANALYZER_REPORT_RENDERERS_H_
#define OLLAMATRACE_ANALYZER_REPORT_RENDERERS_H_

#include <cstdint>
#include <functional>

#include "absl/strings/string_view.h"
#include "analyzer/report/diff_reports.h"
#include "analyzer/report/report.h"

namespace ollamatrace {

// Takes the output piece by piece.
using OutputSink = std::function<void(absl::string_view)>;

struct TextOptions {
  uint64_t frames = 10;     // of each stack, runtime and elided ones not counted; 0: all
  uint64_t processes = 15;  // rows of the table of processes; 0: all
  uint64_t notes = 25;      // 0: all
  size_t width = 120;       // of a line in columns, as far as figures and names can give way
  bool colour = false;      // escape sequences of a terminal
};

// For people: ASCII but for the names it is given.
void RenderText(const Report& report, const TextOptions& options, const OutputSink& sink);

// Groups that may be leaks, a few lines each.
void RenderLeaks(const Report& report, const TextOptions& options, const OutputSink& sink);

// Phases, load cycles, and live bytes over time as sparklines.
void RenderTimeline(const Report& report, const TextOptions& options, const OutputSink& sink);

// What the heap keeps though it is not in use, and which stacks are why.
void RenderFragmentation(const Report& report, const TextOptions& options, const OutputSink& sink);

// What grew, what is new, what shrank or is gone; at most `top` groups, 0: all.
void RenderDiff(const ReportDiff& diff, uint64_t top, const TextOptions& options,
                const OutputSink& sink);
void RenderDiffJson(const ReportDiff& diff, uint64_t top, const OutputSink& sink);

enum class JsonStacks {
  kFrames,   // each group has its frames: every line can be read alone
  kIndices,  // each group has indices into one table of frames, and its curve's changes alone
};

// For machines: one JSON object, one group a line. Text that is not UTF-8 has its bad bytes
// replaced.
void RenderJson(const Report& report, const OutputSink& sink,
                JsonStacks stacks = JsonStacks::kFrames);

// JSON Lines: one object a line, with its "type" first: "session", "process" and "group" (what they
// are in RenderJson, a group without its curve), and "sample", the live bytes of a process by kind
// of memory at a moment of the timeline.
void RenderJsonLines(const Report& report, const OutputSink& sink);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_RENDERERS_H_
