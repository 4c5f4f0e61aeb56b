// The report: what was found, as plain data. Renderers see nothing else. Schema
// "ollama-leakview/report/1".
//
// Bytes are bytes as asked for by the program; times are seconds since the session's start.
#ifndef OLLAMATRACE_ANALYZER_REPORT_REPORT_H_
#define OLLAMATRACE_ANALYZER_REPORT_REPORT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "analyzer/report/report_gpu.h"
#include "analyzer/report/report_memory.h"
#include "analyzer/report/report_timeline.h"

namespace ollamatrace {

struct ReportFrame {
  std::string function;  // empty when unknown
  std::string file;      // empty when unknown
  uint32_t line = 0;     // 0 when unknown
  std::string module;    // path; empty for code of no module
  std::string build_id;  // hexadecimal; may be empty
  uint64_t offset =
      0;  // ELF virtual address in the module; the address itself for code of no module
  bool inlined = false;
  bool plumbing = false;  // an allocator's or a runtime's own, see IsPlumbing
};

// Mode sample: figures of the heap are estimates, and these their standard errors.
struct ReportErrors {
  double live_bytes = 0;
  double live_blocks = 0;
  double allocations = 0;
  double frees = 0;
  uint64_t sampled_blocks = 0;  // so many blocks stand for all that are live
};

struct ReportDomain {
  std::string domain;   // as DomainName says
  std::string mapping;  // of domain "mapping": "anonymous", "file", "reserved"; else empty
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t peak_bytes = 0;
  uint64_t allocations = 0;
  uint64_t frees = 0;
  std::optional<ReportErrors> errors;  // of estimates
};

// Gauges of the last sample; nothing where a figure is not known.
struct ReportMemory {
  std::optional<uint64_t> rss_anon;
  std::optional<uint64_t> rss_file;
  std::optional<uint64_t> rss_shmem;
  std::optional<uint64_t> swap;
  std::optional<uint64_t> retained;  // free in the allocator, not returned to the kernel
  std::optional<uint64_t> open_files;
  std::optional<uint64_t> sockets;
  std::optional<uint64_t> threads;
  uint64_t mapped =
      0;  // live anonymous mappings and the break, as the program itself asked for them
  std::optional<ReportAccounting> accounting;  // when the trace has a memory map
};

// What `ollama-leakview scan` found, as valgrind uses the words: nothing points to a block, only
// lost blocks do, or only something into its middle.
struct ReportLost {
  uint64_t definitely_bytes = 0;
  uint64_t definitely_blocks = 0;
  uint64_t indirectly_bytes = 0;
  uint64_t indirectly_blocks = 0;
  uint64_t possibly_bytes = 0;
  uint64_t possibly_blocks = 0;
};

// The last scan of a process.
struct ReportScan {
  double time = 0;
  double pause = 0;             // seconds for which the process stood still
  double duration = 0;          // in all
  bool blocks_unknown = false;  // more may be lost than was found
  ReportLost lost;
};

struct ReportProcess {
  std::string trace;  // path
  uint32_t pid = 0;
  uint32_t ppid = 0;
  std::optional<size_t> parent;  // index of the process that started it, when it was traced
  std::string exe;
  std::string name;  // the last part of exe
  std::vector<std::string> argv;
  std::string mode;  // "survivors", "full", "sample"
  // Mode sample: a block of the heap is recorded with chance 1 - exp(-size / sample_bytes).
  std::optional<uint64_t> sample_bytes;
  double start = 0;
  double complete_from = 0;  // later than start when the trace has dropped what came before
  double last = 0;           // its end, or the last that is known of it
  // "running", "exited", "exec", "stopped" (recording ended before it did), "killed": ended without
  // its exit handlers, by a signal or by _exit or exit_group, as Go programs do; a trace cannot
  // tell which.
  std::string end;
  uint64_t requests = 0;
  uint64_t lost_events = 0;
  ReportDomain host;  // the heap
  ReportGpu gpu;
  std::vector<ReportDomain> domains;  // all of them
  ReportMemory memory;
  std::optional<ReportScan> scan;
};

// Bytes per request, token or hour, with its 95 % confidence interval.
struct ReportRate {
  double value = 0;
  double low = 0;
  double high = 0;
};

struct ReportGroup {
  uint64_t rank = 0;              // from 1
  std::vector<size_t> processes;  // indices; one unless processes were merged
  std::string domain;
  std::string mapping;  // as in ReportDomain
  bool counts_as_memory = true;
  std::string thread;  // name, when grouped by thread
  std::string
      verdict;  // as VerdictName says: "leak", "cache", ...; see analyzer/diagnose/VERDICTS.md
  double confidence = 0;  // in the verdict, 0 to 1
  bool leaks = false;     // the verdict is one of memory that grows without bound, or is left over
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t smallest_block = 0;
  uint64_t largest_block = 0;
  uint64_t allocations = 0;
  uint64_t frees = 0;
  uint64_t allocated_bytes = 0;  // of all allocations
  uint64_t peak_bytes = 0;
  std::optional<ReportErrors> errors;  // of estimates
  std::optional<uint32_t> device;      // of a GPU domain: its ordinal, where it is known
  // Of a GPU domain: blocks that ended with their context; among `frees`.
  uint64_t implicitly_freed_blocks = 0;
  uint64_t implicitly_freed_bytes = 0;
  double share =
      0;  // of the live bytes of all groups that count as memory, 0 to 1; 0 for those that do not
  int64_t growth_bytes = 0;  // after the warm-up
  double warm = 0;           // when that ended
  bool growing = false;      // it grew, and not by one allocation that happened to come late
  std::optional<ReportRate> bytes_per_request;
  std::optional<ReportRate> bytes_per_token;
  std::optional<ReportRate> bytes_per_hour;
  double first_seen = 0;  // of all allocations
  double last_seen = 0;
  ReportCurve curve;  // when a timeline was asked for
  // Of the heap, when one of its processes was scanned; not when grouped by thread.
  std::optional<ReportLost> lost;
  std::vector<std::string> evidence;  // sentences: the numbers that led to the verdict
  std::string site;                   // what it is, where the place is known
  std::string advice;                 // may be empty
  std::vector<uint32_t> frames;       // indices into Report::frames, innermost first
  size_t blamed_frame =
      0;  // index into `frames`: the first that is not plumbing of an allocator or a runtime
};

struct ReportLoss {
  size_t process = 0;
  std::string kind;
  uint64_t events = 0;
};

// A module with frames in the report that could not be named fully.
struct ReportModule {
  std::string path;
  std::string build_id;
  std::string
      state;  // "ok", "unverified", "no-file", "build-id-differs", "unreadable", "not-a-file"
  std::string symbols;  // best source of names: "dwarf", "go", "symtab", "dynsym", "none"
  std::string message;
};

struct ReportCoverage {
  bool complete = true;  // nothing was lost, damaged or left out
  uint64_t lost_events = 0;
  std::vector<ReportLoss> losses;
  uint64_t unreadable_traces = 0;
  uint64_t damaged_chunks = 0;
  uint64_t dropped_bytes = 0;
  uint64_t truncated_traces = 0;
  uint64_t unknown_records = 0;
  uint64_t unmatched_frees = 0;
  uint64_t allocations_over_live = 0;
  std::vector<ReportModule> modules;
  std::vector<std::string> notes;  // one line each
};

struct Report {
  std::string title;           // "report", "leaks"
  std::string headline;        // one sentence: what keeps the memory
  uint64_t start_wall_ns = 0;  // CLOCK_REALTIME, 0 when unknown
  double duration = 0;
  std::optional<double> since;  // the window, when one was asked for
  std::optional<double> until;
  uint64_t requests = 0;
  bool filtered = false;                 // something may have been left out by a filter
  std::string group_by;                  // "stack", "function", "module", "thread"
  std::vector<ReportProcess> processes;  // by start
  std::vector<ReportGroup> groups;       // by rank
  // Of all groups that passed the filters, also those cut off by the limit on their number.
  uint64_t groups_in_all = 0;
  uint64_t live_bytes_in_all = 0;          // of those that count as memory
  std::optional<double> live_bytes_error;  // its standard error, where some of it is estimated
  // By the marks; empty without.
  std::vector<ReportPhase> phases;
  std::vector<ReportCycle> cycles;
  std::vector<ReportOrphan> orphans;
  std::optional<ReportTimeline> timeline;          // when one was asked for
  std::vector<ReportFragmentation> fragmentation;  // of the processes of which it is known
  std::vector<ReportFrame> frames;
  ReportCoverage coverage;
};

// File mappings, reservations and what only refers to other memory are shown, but nobody keeps
// memory by them.
inline bool CountsAsMemory(const ReportGroup& group) { return group.counts_as_memory; }

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_REPORT_H_
