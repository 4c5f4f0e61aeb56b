// What replay leaves of one process's trace: plain data, from which a report is made.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_PROCESS_HISTORY_H_
#define OLLAMATRACE_ANALYZER_REPLAY_PROCESS_HISTORY_H_

#include <algorithm>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "analyzer/load/scan_file.h"
#include "analyzer/replay/death_ages.h"
#include "analyzer/replay/group_series.h"
#include "analyzer/replay/memory_layout.h"
#include "analyzer/replay/stack_nodes.h"
#include "analyzer/replay/stack_table.h"
#include "formats/gpu_records.h"
#include "formats/read_summary.h"
#include "formats/trace_format.h"

namespace ollamatrace {

// Of all blocks, allocated within the window or before.
struct DomainTotals {
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t peak_bytes = 0;  // a lower bound in the default mode: within a sampling period the exact
                            // moment is not known
  uint64_t allocations = 0;
  uint64_t frees = 0;
  uint64_t bytes = 0;
  Variances variances;
  uint64_t live_drawn = 0;
};

struct Module {
  std::string path;
  std::string build_id;  // raw bytes
  uint64_t bias = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
};

struct TimelinePoint {
  SampleRecord sample;
  uint64_t heap_live_bytes = 0;    // at that moment, pooled blocks included
  uint64_t mapped_live_bytes = 0;  // anonymous mappings and the break
};

// The innermost frame of a stack of a GPU domain: see GpuPlaceRecord.
struct GpuPlace {
  std::string function;
  uint32_t device = kNoDevice;
  uint32_t context = 0;
  uint64_t stream = 0;
};

// What the capture itself says of a domain on a device; exact, and as of `time_ns`.
struct GpuLedger {
  uint64_t time_ns = 0;
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t peak_bytes = 0;
};

struct GpuFailure {
  uint64_t time_ns = 0;
  GpuFailureKind kind = GpuFailureKind::kAllocation;
  Domain domain = Domain::kDevice;
  uint32_t status = 0;
  uint64_t size = 0;
  StackId stack{};
};

// What ended with its context, of one stack.
struct ImplicitFrees {
  uint64_t blocks = 0;
  uint64_t bytes = 0;
};

// A look of NVML's, with what the trace knew at that moment.
struct GpuPoint {
  GpuSampleRecord sample;
  // On the device, by the ledgers: all but managed memory, of which it is not known where it is.
  uint64_t traced_bytes = 0;
  uint64_t graphs = 0;  // executable ones that are live
};

struct GpuCapture {
  GpuCaptureState state = GpuCaptureState::kUnavailable;
  std::string reason;
  std::string where;
};

struct GpuHistory {
  std::optional<GpuCapture> capture;  // nothing: the library is from before there was any
  std::map<uint32_t, GpuPlace> places;
  std::map<std::pair<Domain, uint32_t>, DomainTotals> totals;  // by domain and device
  std::map<std::pair<Domain, uint32_t>, GpuLedger> ledgers;
  std::vector<GpuFailure> failures;  // the first ones
  uint64_t failed_allocations = 0;
  uint64_t failed_frees = 0;
  std::map<std::pair<uint32_t, Domain>, ImplicitFrees> implicit;  // by stack and domain
  std::map<uint32_t, std::vector<GpuPoint>> points;  // by device, by time; decimated when long
  // 2 MiB pages that live blocks of the device domain fill in part, by device: an estimate.
  std::map<uint32_t, uint64_t> rounding_bytes;
};

enum class ProcessEnd { kRunning, kExited, kKilled, kExec, kStopped };

struct ProcessHistory {
  std::string path;  // the trace's
  bool has_header = false;
  uint32_t pid = 0;
  uint32_t ppid = 0;
  uint64_t start_ns = 0;
  uint64_t wall_ns = 0;
  uint64_t process_start = 0;
  // Not 0: history before segment_ns was dropped, but for what was live then and sums.
  uint32_t segment = 0;
  uint64_t segment_ns = 0;
  // From when on what came and went is known, with its times.
  uint64_t complete_from_ns() const {
    return segment == 0 ? start_ns : std::max(start_ns, segment_ns);
  }
  bool born_by_fork = false;
  Mode mode = Mode::kSurvivors;
  uint64_t sample_bytes = 0;  // mode sample: one block is drawn in so many bytes; else 0
  std::string exe;
  std::vector<std::string> argv;
  std::string library;
  std::string architecture;

  ProcessEnd end = ProcessEnd::kKilled;
  uint64_t end_ns = 0;              // the End record's time, else the last time in the trace
  uint64_t last_allocation_ns = 0;  // of any stack, in the window; 0: none
  uint64_t requests = 0;            // marked while the process lived, within the window

  StackNodes nodes;
  absl::flat_hash_map<uint32_t, Module> modules;
  absl::flat_hash_map<uint32_t, std::string> thread_names;
  StackTable stacks;
  std::map<std::pair<Domain, MappingClass>, DomainTotals> totals;
  GroupSeries series;    // of what was allocated within the window, by StackStats::row
  DeathAges death_ages;  // the same

  std::vector<TimelinePoint> timeline;  // decimated when long; the last sample is always there
  uint64_t samples = 0;

  // When it was asked for, and the trace has a memory map.
  std::optional<MemoryLayout> layout;
  std::vector<StackKey> layout_keys;  // what LaidBlock::key and LaidMapping::key mean

  std::optional<ScanResult> scan;  // the last one within the window, where there was any
  GpuHistory gpu;

  uint64_t unmatched_frees = 0;   // frees of blocks that the trace does not know
  uint64_t allocs_over_live = 0;  // allocations at an address that was live: its free was lost
  std::map<LossKind, uint64_t> losses;
  std::vector<std::string> messages;  // the library's, in the trace
  uint64_t messages_dropped = 0;
  ReadSummary summary;

  // The place of a stack of a GPU domain; nullptr: it has none.
  const GpuPlace* PlaceOf(StackId stack) const {
    const std::optional<Node> node = nodes.Find(stack);
    return node ? PlaceOf(*node) : nullptr;
  }
  const GpuPlace* PlaceOf(const Node& node) const {
    if (node.module != ModuleId{} || node.address >= kMaxGpuPlaces) return nullptr;
    const auto place = gpu.places.find(static_cast<uint32_t>(node.address));
    return place == gpu.places.end() ? nullptr : &place->second;
  }

  const DomainTotals& Total(Domain domain, MappingClass mapping = MappingClass::kAnonymous) const {
    static const DomainTotals kNone;
    const auto it = totals.find({domain, mapping});
    return it == totals.end() ? kNone : it->second;
  }
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_PROCESS_HISTORY_H_
