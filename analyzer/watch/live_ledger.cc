#include "analyzer/watch/live_ledger.h"

#include <algorithm>

#include "formats/sample_weight.h"

namespace ollamatrace {
namespace {

std::string Copy(const Text& text) {
  return text.data == nullptr ? std::string() : std::string(text.data, text.size);
}

MappingClass ClassOf(const MapRecord& map) {
  constexpr uint8_t kAccess = 7;  // PROT_READ | PROT_WRITE | PROT_EXEC
  if (map.kind == kMapFilePrivate || map.kind == kMapFileShared) return MappingClass::kFile;
  return (map.protection & kAccess) == 0 ? MappingClass::kReserved : MappingClass::kAnonymous;
}

void Subtract(uint64_t& from, uint64_t amount) { from -= std::min(from, amount); }

}  // namespace

void LiveLedger::OnHeader(const HeaderRecord& header) {
  if (has_header_) return;
  has_header_ = true;
  pid_ = header.pid;
  exe_ = Copy(header.exe);
  if (header.mode == Mode::kSample) sample_bytes_ = header.sample_bytes;
}

void LiveLedger::OnModule(const ModuleRecord& module) {
  modules_[static_cast<uint32_t>(module.id)] = {Copy(module.path), Copy(module.build_id),
                                                module.bias, module.begin, module.end};
}

void LiveLedger::OnNode(const NodeRecord& node) {
  if (node.id == StackId{} || nodes_.size() >= kMostNodes) return;
  nodes_[static_cast<uint32_t>(node.id)] = {node.parent, node.module, node.address,
                                            node.exact != 0};
}

uint32_t LiveLedger::FindRow(const StackKey& key) {
  const auto known = row_of_.find(key);
  if (known != row_of_.end()) return known->second;
  StackKey wanted = key;
  if (rows_.size() >= kMostRows) {
    wanted.stack = StackId{};
    const auto rest = row_of_.find(wanted);
    if (rest != row_of_.end()) return rest->second;
  }
  const uint32_t row = static_cast<uint32_t>(rows_.size());
  rows_.push_back({wanted, 0, 0, 0});
  row_of_[wanted] = row;
  return row;
}

uint64_t& LiveLedger::TotalOf(const StackKey& key) {
  if (IsGpu(key.domain)) return IsOwnMemory(key.domain) ? gpu_bytes_ : ignored_bytes_;
  if (key.domain == Domain::kHeap) return heap_bytes_;
  return key.domain == Domain::kMapping && key.mapping == MappingClass::kAnonymous ? mapped_bytes_
                                                                                   : ignored_bytes_;
}

void LiveLedger::Change(uint32_t index, uint64_t bytes, uint64_t blocks, bool more) {
  Row& row = rows_[index];
  if (marked_) old_rows_.try_emplace(index, row);
  uint64_t& total = TotalOf(row.key);
  if (more) {
    row.live_bytes += bytes;
    row.live_blocks += blocks;
    total += bytes;
  } else {
    Subtract(row.live_bytes, bytes);
    Subtract(row.live_blocks, blocks);
    Subtract(total, bytes);
  }
}

void LiveLedger::ChangeBlock(Block block, bool more) {
  uint64_t bytes = SizeOf(block), blocks = 1;
  if (sample_bytes_ != 0 && rows_[RowOf(block)].key.domain == Domain::kHeap) {
    const SampleWeight weight = WeightOf(bytes, sample_bytes_);
    bytes = weight.bytes;
    blocks = (weight.blocks + SampleWeight::kOneBlock / 2) / SampleWeight::kOneBlock;
  }
  Change(RowOf(block), bytes, blocks, more);
  if (more) {
    live_blocks_ += blocks;
  } else {
    Subtract(live_blocks_, blocks);
  }
}

void LiveLedger::Remember(uint64_t key) {
  if (!marked_) return;
  const auto now = blocks_.find(key);
  old_blocks_.try_emplace(key,
                          now == blocks_.end() ? std::nullopt : std::optional<Block>(now->second));
}

void LiveLedger::OnAlloc(const AllocRecord& alloc) {
  if (!followed_) return;
  const uint64_t key = KeyOf(alloc.domain, alloc.address);
  Remember(key);
  const uint32_t row = FindRow({alloc.stack, ThreadId{}, alloc.domain});
  const auto [it, added] = blocks_.try_emplace(key);
  if (!added) ChangeBlock(it->second, false);
  it->second = Pack(alloc.size, row);
  ChangeBlock(it->second, true);
  if (blocks_.size() > kMostBlocks) GiveUpBlocks();
}

void LiveLedger::OnFree(const FreeRecord& free) {
  const uint64_t key = KeyOf(free.domain, free.address);
  const auto it = blocks_.find(key);
  if (it == blocks_.end()) return;
  Remember(key);
  ChangeBlock(it->second, false);
  blocks_.erase(it);
}

void LiveLedger::GiveUpBlocks() {
  followed_ = false;
  for (const auto& [key, block] : blocks_) ChangeBlock(block, false);
  absl::flat_hash_map<uint64_t, Block>().swap(blocks_);
  // There is no way back, not by TakeBack either.
  absl::flat_hash_map<uint64_t, std::optional<Block>>().swap(old_blocks_);
  for (auto& [index, row] : old_rows_) {
    if (row.key.domain != Domain::kMapping && row.key.domain != Domain::kBreak) {
      row.live_bytes = row.live_blocks = 0;
    }
  }
  old_heap_bytes_ = old_gpu_bytes_ = old_live_blocks_ = 0;
}

void LiveLedger::Unmapped(const Mapping& mapping, uint64_t bytes, bool last) {
  Change(FindRow(mapping.key), bytes, last, false);
}

void LiveLedger::OnMap(const MapRecord& map) {
  StackKey key;
  key.stack = map.stack;
  key.domain = map.function == AllocFunction::kBrk ? Domain::kBreak : Domain::kMapping;
  key.mapping = ClassOf(map);
  const uint64_t length = std::min(map.length, ~map.address);
  if (length == 0) return;
  mappings_.Map(
      map.address, length, {key, map.time_ns},
      [&](const Mapping& mapping, uint64_t bytes, bool last) { Unmapped(mapping, bytes, last); });
  Change(FindRow(key), length, 1, true);
}

void LiveLedger::OnUnmap(const UnmapRecord& unmap) {
  mappings_.Unmap(
      unmap.address, unmap.length,
      [&](const Mapping& mapping, uint64_t bytes, bool last) { Unmapped(mapping, bytes, last); });
}

void LiveLedger::OnSample(const SampleRecord& sample) {
  if (!sample_ || sample.time_ns >= sample_->time_ns) sample_ = sample;
}

void LiveLedger::OnLoss(const LossRecord& loss) {
  if (loss.kind == LossKind::kStackTableFull) return;
  losses_[static_cast<uint32_t>(loss.kind)] = loss.events;
  lost_events_ = 0;
  for (const auto& [kind, events] : losses_) lost_events_ += events;
}

void LiveLedger::Mark() {
  marked_ = true;
  old_mappings_ = mappings_;
  old_heap_bytes_ = heap_bytes_;
  old_mapped_bytes_ = mapped_bytes_;
  old_gpu_bytes_ = gpu_bytes_;
  old_live_blocks_ = live_blocks_;
}

void LiveLedger::TakeBack() {
  if (!marked_) return;
  marked_ = false;
  for (const auto& [key, block] : old_blocks_) {
    if (block) {
      blocks_[key] = *block;
    } else {
      blocks_.erase(key);
    }
  }
  for (const auto& [index, row] : old_rows_) {
    const uint64_t first = rows_[index].first_bytes;
    rows_[index] = row;
    rows_[index].first_bytes = first;
  }
  absl::flat_hash_map<uint64_t, std::optional<Block>>().swap(old_blocks_);
  absl::flat_hash_map<uint32_t, Row>().swap(old_rows_);
  mappings_ = std::move(old_mappings_);
  old_mappings_ = MappingTable();
  heap_bytes_ = old_heap_bytes_;
  mapped_bytes_ = old_mapped_bytes_;
  gpu_bytes_ = old_gpu_bytes_;
  live_blocks_ = old_live_blocks_;
}

void LiveLedger::Restart() {
  absl::flat_hash_map<uint64_t, Block>().swap(blocks_);
  mappings_ = MappingTable();
  for (Row& row : rows_) row.live_bytes = row.live_blocks = 0;
  heap_bytes_ = mapped_bytes_ = gpu_bytes_ = ignored_bytes_ = live_blocks_ = 0;
  followed_ = true;
}

void LiveLedger::SetFirst() {
  for (Row& row : rows_) row.first_bytes = row.live_bytes;
}

ProcessHistory LiveLedger::StacksForNaming(const std::vector<StackId>& stacks) const {
  ProcessHistory history;
  history.pid = pid_;
  history.exe = exe_;
  for (StackId stack : stacks) {
    for (int depth = 0; depth < 1024; ++depth) {
      const auto node = nodes_.find(static_cast<uint32_t>(stack));
      if (node == nodes_.end() || history.nodes.Contains(stack)) break;
      history.nodes.Set(stack, node->second);
      const auto module = modules_.find(static_cast<uint32_t>(node->second.module));
      if (module != modules_.end()) history.modules.emplace(*module);
      stack = node->second.parent;
    }
  }
  return history;
}

}  // namespace ollamatrace
