// The report's part about time: phases, load cycles, and curves of live bytes. Plain data; bytes
// and seconds as in report.h.
#ifndef OLLAMATRACE_ANALYZER_REPORT_REPORT_TIMELINE_H_
#define OLLAMATRACE_ANALYZER_REPORT_REPORT_TIMELINE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace ollamatrace {

// Bytes are those of the heap and of anonymous mappings, of all processes of the report together.
struct ReportPhase {
  std::string name;  // the mark's
  std::string kind;  // "warm-up", "load", "idle", "unload", "reload", "end", "other"
  double begin = 0;
  double end = 0;
  uint64_t requests = 0;
  double begin_bytes = 0;
  double end_bytes = 0;
  double peak_bytes = 0;
  // Idle phases: bytes by hour, with the 95 % interval.
  std::optional<double> idle_per_hour;
  double idle_low = 0;
  double idle_high = 0;
};

// Something was loaded and unloaded again.
struct ReportCycle {
  double loaded = 0;
  double unload = 0;
  double settled = 0;
  double before_bytes = 0;
  double peak_bytes = 0;
  double loaded_bytes = 0;
  double after_bytes = 0;
  double survived_bytes = 0;               // after - before
  std::optional<double> recovery_seconds;  // until nine tenths of what loading added were free
  std::vector<size_t> killed;              // processes that were killed in it
  uint64_t killed_bytes = 0;               // what they held
};

// A process that lived on when the one that started it had ended.
struct ReportOrphan {
  size_t process = 0;
  size_t parent = 0;
  double outlived = 0;
};

// Live bytes at ReportTimeline::times; nothing where the process did not live.
using ReportCurve = std::vector<std::optional<double>>;

struct ReportProcessCurves {
  size_t process = 0;
  struct DomainCurve {
    std::string domain;
    std::string mapping;
    ReportCurve bytes;
  };
  std::vector<DomainCurve> domains;
  // As the kernel says; empty when it never did.
  ReportCurve rss_anon;
  ReportCurve open_files;  // sockets among them
};

struct ReportTimeline {
  std::vector<double> times;       // moments, equally far apart
  std::vector<uint64_t> requests;  // answered by then
  std::vector<ReportProcessCurves> processes;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_REPORT_TIMELINE_H_
