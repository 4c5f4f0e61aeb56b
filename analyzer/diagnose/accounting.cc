#include "analyzer/diagnose/accounting.h"

#include <algorithm>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/string_view.h"
#include "analyzer/diagnose/pages.h"
#include "analyzer/diagnose/pages_owners.h"

namespace ollamatrace {
namespace {

bool IsSharedMemory(const MemoryArea& area) {
  return area.shared &&
         (absl::StartsWith(area.name, "/dev/shm/") || absl::StartsWith(area.name, "/memfd:") ||
          absl::StartsWith(area.name, "/SYSV") || absl::StartsWith(area.name, "/dev/zero") ||
          area.name.empty() || area.kind == AreaKind::kNamed);
}

class Account {
 public:
  Account(const ProcessHistory& history, const IsGoHeap& is_go_heap)
      : history_(history), is_go_heap_(is_go_heap), layout_(*history.layout), pages_(layout_.map) {}

  Accounting Make() {
    accounting_.time_ns = layout_.map.time_ns;
    for (const OwnedRange& range : FindOwners(layout_)) Add(range);
    AddFiles();
    if (history_.mode == Mode::kSample) {
      // Where the blocks lie that were not drawn, nobody knows.
      live_.row.id = "heap";
      live_.row.name = "heap (sampled: live or free is not known)";
      live_.row.bytes +=
          std::exchange(overhead_.row.bytes, 0) + std::exchange(retained_.row.bytes, 0);
    }
    if (history_.born_by_fork) {
      retained_.row.name = "free, or allocated before the fork";
      retained_.row.how = Evidence::kEstimated;
    }
    for (Sum* sum : {&live_, &overhead_, &retained_, &mappings_, &named_, &go_, &stacks_,
                     &module_data_, &tracer_}) {
      Settle(*sum);
    }
    accounting_.retained = retained_.row.bytes;
    accounting_.mapped = mappings_.row.bytes + named_.row.bytes;
    unknown_ += layout_.map.rest_anonymous + layout_.map.rest_swap;
    accounting_.unknown = unknown_;
    accounting_.rows.push_back({"unknown", "unknown", unknown_, Evidence::kMeasured, {}});
    for (const AccountRow& row : accounting_.rows) accounting_.total += row.bytes;
    return std::move(accounting_);
  }

 private:
  struct Sum {
    AccountRow row;
    std::map<std::string, uint64_t> by_name;
    std::map<uint32_t, uint64_t> by_key;
  };

  void AddTo(Sum& sum, const OwnedRange& range, uint64_t bytes, const std::string& part = "") {
    if (bytes == 0) return;
    sum.row.bytes += bytes;
    if (!part.empty()) sum.by_name[part] += bytes;
    if (!pages_.Exact(range.begin, range.end)) sum.row.how = Evidence::kEstimated;
  }

  void Add(const OwnedRange& range) {
    const uint64_t held = pages_.Bytes(range.begin, range.end);
    if (held == 0) return;
    switch (range.owner) {
      case Owner::kUnknown:
        unknown_ += held;
        return;
      case Owner::kMainArena:
        return AddChunks(range, "main arena");
      case Owner::kArenaHeap:
        return AddChunks(range, ArenaName(layout_.map.heaps[range.index].arena));
      case Owner::kMappedChunk:
        return AddChunks(range, "");
      case Owner::kAllocator:
        return AddChunks(range, "allocator of unknown kind");
      case Owner::kMapping:
        if (is_go_heap_ && range.index != kNoKey && is_go_heap_(range.index)) {
          return AddTo(go_, range, held);
        }
        AddTo(mappings_, range, held);
        mappings_.by_key[range.index] += held;
        return;
      case Owner::kThreadStack:
        return AddTo(stacks_, range, held, "other threads");
      case Owner::kMainStack:
        return AddTo(stacks_, range, held, "first thread");
      case Owner::kGoHeap:
        return AddTo(go_, range, held);
      case Owner::kModuleData:
        return AddTo(module_data_, range, held, ".bss");
      case Owner::kLoader:
        return AddTo(module_data_, range, held, "dynamic loader");
      case Owner::kNamed:
        return AddTo(named_, range, held, layout_.map.areas[range.index].name);
      case Owner::kTracer:
        return AddTo(tracer_, range, held, "private memory");
    }
  }

  static std::string ArenaName(uint64_t arena) { return absl::StrFormat("arena 0x%x", arena); }

  // Memory of an allocator: live blocks, what surrounds them, and what is free.
  void AddChunks(const OwnedRange& range, const std::string& arena) {
    const bool glibc = range.owner != Owner::kAllocator;
    const std::vector<LaidBlock>& blocks = layout_.blocks;
    auto block =
        std::lower_bound(blocks.begin(), blocks.end(), range.begin,
                         [](const LaidBlock& one, uint64_t at) { return one.address < at; });
    // One may begin before the range, and reach into it.
    if (block != blocks.begin() &&
        std::prev(block)->address + std::prev(block)->size > range.begin) {
      --block;
    }
    uint64_t at = range.begin;  // all below is accounted for
    uint64_t live = 0, overhead = 0, retained = 0;
    for (; block != blocks.end() && block->address < range.end; ++block) {
      const uint64_t size = std::min(block->size, uint64_t{1} << 48);
      const uint64_t header = glibc && block->address > kChunkHeader ? kChunkHeader - 8 : 0;
      const auto clip = [&](uint64_t address) { return std::clamp(address, at, range.end); };
      const uint64_t chunk = clip(block->address - header);
      retained += pages_.Bytes(at, chunk);
      at = chunk;
      const uint64_t begin = clip(block->address);
      overhead += pages_.Bytes(at, begin);
      at = begin;
      const uint64_t end = clip(block->address + size);
      live += pages_.Bytes(at, end);
      at = end;
      if (glibc) {
        uint64_t chunk_end = clip(block->address - header + ChunkBytes(size));
        const auto next = block + 1;
        if (next != blocks.end()) chunk_end = std::min(chunk_end, clip(next->address - header));
        overhead += pages_.Bytes(at, chunk_end);
        at = chunk_end;
      }
    }
    const uint64_t rest = pages_.Bytes(at, range.end);
    // A large block's mapping is rounded up to pages, and all the block's.
    if (range.owner == Owner::kMappedChunk) {
      overhead += retained + rest;
      retained = 0;
    } else {
      retained += rest;
    }
    AddTo(live_, range, live);
    AddTo(overhead_, range, overhead);
    AddTo(retained_, range, retained, arena);
    if (retained > 0 && range.owner == Owner::kAllocator) retained_.row.how = Evidence::kEstimated;
  }

  void AddFiles() {
    std::map<std::string, AccountFile> files;
    std::map<std::string, uint64_t> data;
    for (const MemoryArea& area : layout_.map.areas) {
      if (IsAnonymous(area)) continue;
      const uint64_t own =
          area.kind == AreaKind::kFile && !area.shared ? area.anonymous + area.swap : 0;
      const uint64_t of_file = area.rss - std::min(area.rss, area.shared ? 0 : area.anonymous);
      if (own > 0 && IsTracerFile(area.name)) {
        tracer_.row.bytes += own;
        tracer_.by_name["private memory"] += own;
      } else if (own > 0) {
        module_data_.row.bytes += own;
        module_data_.by_name[area.name] += own;
      }
      if (of_file == 0 || area.kind == AreaKind::kOther) continue;
      const bool shmem = IsSharedMemory(area);
      AccountFile& file =
          files[shmem && area.name.empty() ? std::string("shared anonymous memory") : area.name];
      file.rss += of_file;
      file.shared += std::min(of_file, area.shared_bytes);
      file.shmem = shmem;
    }
    for (auto& [path, file] : files) {
      file.path = path;
      accounting_.files.push_back(file);
    }
    std::stable_sort(accounting_.files.begin(), accounting_.files.end(),
                     [](const AccountFile& a, const AccountFile& b) { return a.rss > b.rss; });
  }

  void Settle(Sum& sum) {
    if (sum.row.bytes == 0) return;
    std::vector<AccountPart>& parts = sum.row.parts;
    for (const auto& [name, bytes] : sum.by_name) parts.push_back({name, kNoKey, bytes});
    for (const auto& [key, bytes] : sum.by_key) parts.push_back({"", key, bytes});
    std::stable_sort(parts.begin(), parts.end(),
                     [](const AccountPart& a, const AccountPart& b) { return a.bytes > b.bytes; });
    accounting_.rows.push_back(sum.row);
  }

  const ProcessHistory& history_;
  const IsGoHeap& is_go_heap_;
  const MemoryLayout& layout_;
  const HeldPages pages_;
  Accounting accounting_;
  Sum live_{{"live_heap", "live heap", 0, Evidence::kMeasured, {}}, {}, {}};
  Sum overhead_{{"overhead", "the allocator's overhead", 0, Evidence::kComputed, {}}, {}, {}};
  Sum retained_{{"retained", "free, kept by the allocator", 0, Evidence::kComputed, {}}, {}, {}};
  Sum mappings_{{"mappings", "anonymous mappings", 0, Evidence::kMeasured, {}}, {}, {}};
  Sum named_{{"named", "named mappings, not seen when mapped", 0, Evidence::kMeasured, {}}, {}, {}};
  Sum go_{{"go_heap", "Go heap", 0, Evidence::kMeasured, {}}, {}, {}};
  Sum stacks_{{"stacks", "stacks of threads", 0, Evidence::kMeasured, {}}, {}, {}};
  Sum module_data_{
      {"module_data", "modules' data (.data, .bss, relocated)", 0, Evidence::kMeasured, {}},
      {},
      {}};
  Sum tracer_{{"tracer", "the tracer's own", 0, Evidence::kMeasured, {}}, {}, {}};
  uint64_t unknown_ = 0;
};

}  // namespace

Accounting AccountMemory(const ProcessHistory& history, const IsGoHeap& is_go_heap) {
  return Account(history, is_go_heap).Make();
}

}  // namespace ollamatrace
