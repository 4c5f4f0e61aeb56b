#include "analyzer/report/build_memory.h"

#include <algorithm>
#include <map>
#include <string>
#include <utility>

#include "absl/container/flat_hash_map.h"

namespace ollamatrace {
namespace {

constexpr size_t kMaxParts = 32;

const char* EvidenceName(Evidence how) {
  switch (how) {
    case Evidence::kMeasured:
      return "measured";
    case Evidence::kComputed:
      return "computed";
    case Evidence::kEstimated:
      break;
  }
  return "estimated";
}

}  // namespace

ReportAccounting MakeAccounting(const Accounting& accounting, double at, const StackNamer& name) {
  ReportAccounting report;
  report.at = at;
  report.total = accounting.total;
  report.retained = accounting.retained;
  report.mapped = accounting.mapped;
  report.unknown = accounting.unknown;
  for (const AccountRow& row : accounting.rows) {
    ReportAccountRow& to = report.rows.emplace_back();
    to.id = row.id;
    to.name = row.name;
    to.bytes = row.bytes;
    to.how = EvidenceName(row.how);
    // Several stacks may have one name.
    std::map<std::string, uint64_t> by_name;
    for (const AccountPart& part : row.parts) {
      by_name[part.name.empty() ? name(part.key).name : part.name] += part.bytes;
    }
    for (const auto& [part, bytes] : by_name) to.parts.push_back({part, bytes});
    std::stable_sort(
        to.parts.begin(), to.parts.end(),
        [](const ReportAccountPart& a, const ReportAccountPart& b) { return a.bytes > b.bytes; });
    if (to.parts.size() > kMaxParts) to.parts.resize(kMaxParts);
  }
  for (const AccountFile& file : accounting.files) {
    report.files.push_back({file.path, file.rss, file.shared, file.shmem});
  }
  return report;
}

ReportFragmentation MakeFragmentation(const Fragmentation& fragmentation, size_t process, double at,
                                      const StackNamer& name) {
  ReportFragmentation report;
  report.process = process;
  report.at = at;
  report.exact = fragmentation.exact;
  report.held = fragmentation.held;
  report.live_bytes = fragmentation.live_bytes;
  report.free_held = fragmentation.free_held;
  report.trimmable = fragmentation.trimmable;
  report.pinned = fragmentation.pinned;
  report.released_by_all = fragmentation.released_by_all;
  absl::flat_hash_map<uint32_t, size_t> pin_of;
  for (size_t i = 0; i < fragmentation.pins.size(); ++i) pin_of[fragmentation.pins[i].key] = i;
  for (const HeapFragmentation& heap : fragmentation.heaps) {
    report.heaps.push_back({heap.name,
                            heap.size,
                            heap.held,
                            heap.live_bytes,
                            heap.live_blocks,
                            heap.free_held,
                            heap.largest_free_run,
                            heap.free_at_end,
                            heap.trimmable,
                            heap.pinned,
                            heap.pages,
                            heap.cell_bytes,
                            {}});
    for (const HeapCell& cell : heap.cells) {
      ReportHeapCell& to = report.heaps.back().cells.emplace_back();
      to.held = cell.held;
      to.used = cell.used;
      if (const auto pin = pin_of.find(cell.key); pin != pin_of.end()) to.pin = pin->second;
    }
  }
  for (const Pin& pin : fragmentation.pins) {
    NamedStack stack = name(pin.key);
    report.pins.push_back({std::move(stack.frames), stack.blamed_frame, pin.blocks, pin.bytes,
                           pin.pages, pin.pinned, pin.released});
  }
  return report;
}

}  // namespace ollamatrace
