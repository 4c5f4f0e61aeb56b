// Reads a session as `ollama-leakview report` does, one phase after the other, and tells what each
// took.
//
//   bench_read FOLDER
//
// One line a phase: "decode seconds S events E rss_bytes R": R is the greatest resident size up to
// the end of the phase. Phases: decode (records that nobody looks at), replay (decoding included),
// report (groups, names, verdicts), of which names (the symbolizer's time in all), render (text).
#include <sys/resource.h>
#include <time.h>

#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>

#include "analyzer/cli/load_history.h"
#include "analyzer/load/session.h"
#include "analyzer/report/build_report.h"
#include "analyzer/report/renderers.h"
#include "analyzer/report/symbol_source.h"
#include "formats/trace_reader.h"

namespace {

using namespace ollamatrace;

double Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) / 1e9;
}

void Tell(const char* phase, double seconds, uint64_t events) {
  rusage usage;
  getrusage(RUSAGE_SELF, &usage);
  printf("%s seconds %.4f events %llu rss_bytes %llu\n", phase, seconds,
         static_cast<unsigned long long>(events),
         static_cast<unsigned long long>(usage.ru_maxrss) * 1024);
}

class Nobody : public TraceVisitor {
 public:
  uint64_t events = 0;
  void OnAlloc(const AllocRecord&) override { ++events; }
  void OnFree(const FreeRecord&) override { ++events; }
  void OnMap(const MapRecord&) override { ++events; }
  void OnUnmap(const UnmapRecord&) override { ++events; }
  void OnHeapEvents(const ColumnReader& columns) override { events += columns.count(); }
};

// What the names cost.
class TimedSource : public SymbolSource {
 public:
  ModuleIndex AddModule(const ModuleSpec& spec) override { return symbols_.AddModule(spec); }
  absl::Span<const Frame> Lookup(ModuleIndex module, uint64_t address, AddressKind kind) override {
    const double begin = Now();
    const absl::Span<const Frame> frames = symbols_.Lookup(module, address, kind);
    seconds += Now() - begin;
    ++lookups;
    return frames;
  }
  const ModuleStatus& Status(ModuleIndex module) override { return symbols_.Status(module); }

  double seconds = 0;
  uint64_t lookups = 0;

 private:
  SymbolizerSource symbols_{{}};
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    fprintf(stderr, "usage: bench_read FOLDER\n");
    return 2;
  }
  double begin = Now();
  Nobody nobody;
  for (const TraceFile& trace : FindSession({argv[1]}).traces) {
    if (!ReadTrace(trace.path, nobody).ok()) return 3;
  }
  Tell("decode", Now() - begin, nobody.events);

  begin = Now();
  LoadOptions options;
  options.keep_layout = true;
  const absl::StatusOr<LoadedSession> loaded = LoadHistory({argv[1]}, options);
  if (!loaded.ok()) return 3;
  Tell("replay", Now() - begin, nobody.events);

  begin = Now();
  TimedSource symbols;
  ReportQuery query;
  query.top = 20;  // as text has it
  const Report report = BuildReport(loaded->history, query, symbols);
  Tell("report", Now() - begin, nobody.events);
  printf("names seconds %.4f lookups %llu\n", symbols.seconds,
         static_cast<unsigned long long>(symbols.lookups));

  begin = Now();
  size_t bytes = 0;
  RenderText(report, {}, [&](absl::string_view text) { bytes += text.size(); });
  Tell("render", Now() - begin, nobody.events);
  size_t stacks = 0, nodes = 0;
  for (const ProcessHistory& process : loaded->history.processes) {
    stacks += process.stacks.size();
    nodes += process.nodes.size();
  }
  printf("stacks %zu nodes %zu groups %zu frames %zu text_bytes %zu\n", stacks, nodes,
         report.groups.size(), report.frames.size(), bytes);
  return 0;
}
