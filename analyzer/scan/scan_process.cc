#include "analyzer/scan/scan_process.h"

#include <time.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "analyzer/load/live_memory_map.h"
#include "analyzer/replay/replay.h"
#include "analyzer/scan/copy_reader.h"
#include "analyzer/scan/process_copy.h"
#include "analyzer/scan/reachability.h"
#include "analyzer/scan/roots.h"
#include "formats/trace_reader.h"

namespace ollamatrace {
namespace {

constexpr size_t kNamedAddresses = 16;  // of each stack's definitely lost blocks

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

// The blocks, and what else there is in the process, as the trace and the copy have it.
absl::StatusOr<ProcessHistory> ReplayCopy(const ProcessCopy& copy) {
  Replay replay({.keep_layout = true});
  const absl::StatusOr<ReadSummary> summary = ReadTrace(copy.trace(), replay);
  if (!summary.ok()) return summary.status();
  const absl::StatusOr<std::string> map = ReadCopyMemoryMap(static_cast<uint32_t>(copy.pid()));
  if (!map.ok()) return map.status();
  replay.OnMemoryMap({copy.time_ns(), {map->data(), map->size()}});
  ProcessHistory history = replay.Finish(*summary);
  if (history.mode == Mode::kSample) {
    return absl::FailedPreconditionError(
        "blocks are sampled (OLLAMATRACE_MODE), and a scan needs to know all of them");
  }
  if (!history.layout) return absl::InternalError("its memory map cannot be read");
  MemoryMap& layout = history.layout->map;
  // The copy has one thread.
  layout.threads = copy.control_blocks();
  layout.first_thread = copy.first_control_block();
  layout.own_threads = {copy.own_control_block()};
  return history;
}

ScanResult Mark(const ProcessCopy& copy, const ProcessHistory& history, CopyReader& reader) {
  const MemoryLayout& layout = *history.layout;
  ScanResult result;
  result.time_ns = copy.time_ns();
  result.pause_ns = copy.pause_ns();
  result.blocks_unknown = history.born_by_fork || !history.losses.empty();

  std::vector<ScanBlock> blocks;
  blocks.reserve(layout.blocks.size());
  for (const LaidBlock& block : layout.blocks) blocks.push_back({block.address, block.size});
  std::vector<uint64_t> stack_pointers, words;
  for (const StoppedThread& thread : copy.threads()) {
    stack_pointers.push_back(thread.stack_pointer);
    words.insert(words.end(), thread.registers.begin(), thread.registers.end());
  }
  const Roots roots = FindRoots(layout, stack_pointers, result.blocks_unknown);
  words.insert(words.end(), roots.words.begin(), roots.words.end());
  const std::vector<Reach> reach = FindReachable(
      blocks, roots.ranges, words, [&](uint64_t begin, uint64_t end, const WordVisitor& visit) {
        reader.Read(begin, end, visit);
      });

  for (size_t i = 0; i < reach.size(); ++i) {
    const LaidBlock& block = layout.blocks[i];
    if (reach[i] == Reach::kReachable) {
      result.reachable.Add(block.size);
      continue;
    }
    LostBlocks lost;
    (reach[i] == Reach::kDefinitelyLost   ? lost.definitely
     : reach[i] == Reach::kIndirectlyLost ? lost.indirectly
                                          : lost.possibly)
        .Add(block.size);
    result.lost.Add(lost);
    const uint32_t stack = block.key < history.layout_keys.size()
                               ? static_cast<uint32_t>(history.layout_keys[block.key].stack)
                               : 0;
    LostBlocks& of_stack = result.stacks[stack];
    of_stack.Add(lost);
    if (reach[i] == Reach::kDefinitelyLost && of_stack.addresses.size() < kNamedAddresses) {
      of_stack.addresses.push_back(block.address);
    }
  }
  return result;
}

}  // namespace

absl::StatusOr<Scan> ScanProcess(pid_t pid) {
  const uint64_t start_ns = NowNs();
  const absl::StatusOr<std::string> journal = FindJournal(pid);
  if (!journal.ok()) return journal.status();
  const absl::StatusOr<std::unique_ptr<ProcessCopy>> copy = ProcessCopy::Make(pid, *journal);
  if (!copy.ok()) return copy.status();

  const auto about = [pid](const absl::Status& status) {
    return absl::Status(status.code(), absl::StrCat("process ", pid, ": ", status.message()));
  };
  absl::StatusOr<ProcessHistory> history = ReplayCopy(**copy);
  if (!history.ok()) return about(history.status());
  CopyReader reader((*copy)->pid(), history->layout->map);
  Scan scan;
  scan.program = history->exe;
  scan.result = Mark(**copy, *history, reader);
  if (reader.gone()) {
    return about(absl::UnavailableError(
        "its copy was ended while it was looked through, by a lack of memory perhaps"));
  }
  scan.result.scanned_bytes = reader.bytes();
  scan.result.duration_ns = NowNs() - start_ns;
  scan.path = ScanPath(*journal);
  if (absl::Status status = AppendScan(scan.path, scan.result); !status.ok()) return status;
  return scan;
}

}  // namespace ollamatrace
