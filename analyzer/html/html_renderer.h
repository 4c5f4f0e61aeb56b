// The report as one page that needs nothing else: no server, no network.
#ifndef OLLAMATRACE_ANALYZER_HTML_HTML_RENDERER_H_
#define OLLAMATRACE_ANALYZER_HTML_HTML_RENDERER_H_

#include "absl/status/status.h"
#include "analyzer/report/renderers.h"

namespace ollamatrace {

// Writes the page. `diff`, where it is given, says what changed since an earlier session. The
// report should have a timeline, and freed groups for what the page shows of them.
// Unimplemented: the program was built without the page (no npm), and nothing was written.
absl::Status RenderHtml(const Report& report, const ReportDiff* diff, const OutputSink& sink);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_HTML_HTML_RENDERER_H_
