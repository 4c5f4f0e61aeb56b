#include "tests/exactness/live_state.h"

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <filesystem>
#include <iterator>

#include "formats/segment_files.h"

namespace ollamatrace {

void LiveState::Mismatch(const char* what, uint64_t address, uint64_t time_ns) {
  ++mismatches;
  if (complaints.size() >= 20) return;
  char text[160];
  snprintf(text, sizeof(text), "%s: 0x%" PRIx64 " at %" PRIu64 " ns", what, address, time_ns);
  complaints.push_back(text);
}

void LiveState::OnHeader(const HeaderRecord& record) {
  has_header = true;
  header = record;
  header.exe = header.argv = header.library = header.architecture = {};
}

void LiveState::OnAlloc(const AllocRecord& record) {
  if (record.domain != Domain::kHeap) return;
  ++allocations;
  allocated_bytes += record.size;
  const auto [it, added] = blocks_.try_emplace(record.address, Block{record.size, record.stack});
  if (!added) {
    Mismatch("allocated over a live block", record.address, record.time_ns);
    it->second = {record.size, record.stack};
  }
}

void LiveState::OnFree(const FreeRecord& record) {
  if (record.domain != Domain::kHeap) return;
  ++frees;
  if (blocks_.erase(record.address) == 0) {
    Mismatch("freed what was not allocated", record.address, record.time_ns);
  }
}

void LiveState::Remove(uint64_t begin, uint64_t end) {
  auto it = mappings_.upper_bound(begin);
  if (it != mappings_.begin()) --it;
  while (it != mappings_.end() && it->first < end) {
    const auto [low, high] = *it;
    if (high <= begin) {
      ++it;
      continue;
    }
    it = mappings_.erase(it);
    if (low < begin) mappings_.emplace(low, begin);
    if (high > end) it = mappings_.emplace(end, high).first;
  }
}

void LiveState::OnMap(const MapRecord& record) {
  Remove(record.address, record.address + record.length);
  if (record.kind != kMapAnonymous) return;
  mappings_.emplace(record.address, record.address + record.length);
}

void LiveState::OnUnmap(const UnmapRecord& record) {
  Remove(record.address, record.address + record.length);
}

void LiveState::OnCounters(const CountersRecord& record) {
  if (record.domain != Domain::kHeap) return;
  // Cumulative: a later record replaces the earlier one.
  CountersRecord& known =
      counters_[{static_cast<uint32_t>(record.stack), static_cast<int>(record.domain)}];
  folded_pairs += record.pairs - known.pairs;
  folded_bytes += record.bytes - known.bytes;
  known = record;
}

void LiveState::OnDropped(const DroppedRecord& record) {
  if (record.domain != Domain::kHeap) return;
  folded_pairs += record.pairs;
  folded_bytes += record.bytes;
}

void LiveState::OnLoss(const LossRecord& record) {
  uint64_t& known = losses_[static_cast<size_t>(record.kind) % std::size(losses_)];
  if (record.kind != LossKind::kUnfinished) lost_events += record.events - known;
  known = record.events;
}

void LiveState::OnMessage(const MessageRecord& record) {
  if (complaints.size() < 20) {
    complaints.push_back("message: " + std::string(record.text.data, record.text.size));
  }
}

std::vector<std::string> TraceFiles(const std::string& folder) {
  namespace fs = std::filesystem;
  std::map<std::string, std::string> files;  // by what all files of a trace have in common
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const TraceFileName name = ParseTraceFileName(entry.path().native());
    if (name.kind != TraceFileKind::kOther) files[name.base] = entry.path().native();
  }
  std::vector<std::string> paths;
  for (const auto& [base, path] : files) paths.push_back(path);
  return paths;
}

}  // namespace ollamatrace
