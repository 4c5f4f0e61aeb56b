#include "analyzer/diagnose/pages_owners.h"

#include <algorithm>
#include <iterator>
#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "analyzer/diagnose/pages.h"

namespace ollamatrace {
namespace {

constexpr uint8_t kWrite = 2;
// The list of robust futexes is within the first 736 bytes of glibc's struct pthread (2.36), which
// is 2304 bytes long and ends with the stack's mapping, but for alignment.
constexpr uint64_t kBehindRobustList = 2304 - 736;
constexpr uint64_t kUsualStackBytes = 8u << 20;  // RLIMIT_STACK's default
// Where Go's runtime asks the kernel for its arenas on 64 bits (runtime/malloc.go): 0x..c000000000.
constexpr uint64_t kGoArenaMask = 0xff;
constexpr uint64_t kGoArenaByte = 0xc0;
constexpr uint64_t kGoSpan = uint64_t{1} << 32;

// Disjoint ranges, each with an owner; what is painted later covers what was there.
class Painting {
 public:
  struct Stroke {
    uint64_t end = 0;
    Owner owner = Owner::kUnknown;
    uint32_t index = 0;
  };
  using Strokes = std::map<uint64_t, Stroke>;

  void Add(uint64_t begin, uint64_t end) {
    if (begin < end) strokes_[begin] = {end};
  }
  // Only where there is something to paint on; `only` restricts it to what has this owner.
  void Paint(uint64_t begin, uint64_t end, Owner owner, uint32_t index = 0) {
    if (begin >= end) return;
    auto it = strokes_.upper_bound(begin);
    if (it != strokes_.begin() && std::prev(it)->second.end > begin) --it;
    while (it != strokes_.end() && it->first < end) {
      const uint64_t from = it->first;
      const Stroke old = it->second;
      if (from < begin) {
        it->second.end = begin;
        it = strokes_.insert({begin, old}).first;
        continue;
      }
      if (old.end > end) {
        it->second.end = end;
        strokes_[end] = old;
      }
      it->second.owner = owner;
      it->second.index = index;
      ++it;
    }
  }
  Strokes& strokes() { return strokes_; }
  // The stroke at an address, or end().
  Strokes::iterator At(uint64_t address) {
    auto it = strokes_.upper_bound(address);
    if (it == strokes_.begin()) return strokes_.end();
    --it;
    return it->second.end > address ? it : strokes_.end();
  }

 private:
  Strokes strokes_;
};

class OwnerSearch {
 public:
  explicit OwnerSearch(const MemoryLayout& layout) : layout_(layout), map_(layout.map) {}

  std::vector<OwnedRange> Run() {
    for (const MemoryArea& area : map_.areas) {
      if (IsAnonymous(area)) painting_.Add(area.begin, area.end);
    }
    // From what is known least surely to what is known best.
    PaintLoader();
    PaintModules();
    PaintStacks();
    PaintNames();
    for (const LaidMapping& mapping : layout_.mappings) {
      painting_.Paint(mapping.begin, mapping.end, Owner::kMapping, mapping.key);
    }
    PaintGo();
    PaintMalloc();
    for (const PageRun& own : map_.own) painting_.Paint(own.begin, own.end, Owner::kTracer);
    PaintOwnStack();
    std::vector<OwnedRange> ranges;
    ranges.reserve(painting_.strokes().size());
    for (const auto& [begin, stroke] : painting_.strokes()) {
      ranges.push_back({begin, stroke.end, stroke.owner, stroke.index});
    }
    return ranges;
  }

 private:
  void PaintLoader() {
    const auto stroke = painting_.At(map_.first_thread);
    if (map_.first_thread != 0 && stroke != painting_.strokes().end()) {
      stroke->second.owner = Owner::kLoader;
    }
  }

  // .bss follows the last mapping of its file.
  void PaintModules() {
    for (size_t i = 1; i < map_.areas.size(); ++i) {
      const MemoryArea& file = map_.areas[i - 1];
      const MemoryArea& area = map_.areas[i];
      if (file.kind != AreaKind::kFile || file.shared || area.kind != AreaKind::kAnonymous ||
          area.shared || area.begin != file.end || (area.protection & kWrite) == 0) {
        continue;
      }
      // Another mapping may have grown onto it.
      uint64_t end = area.end;
      for (const LaidModule& module : layout_.modules) {
        if (module.begin < area.begin && module.end > area.begin) end = std::min(end, module.end);
      }
      end = std::min(area.end, (end + layout_.page_bytes - 1) & ~(layout_.page_bytes - 1));
      painting_.Paint(area.begin, end,
                      IsTracerFile(file.name) ? Owner::kTracer : Owner::kModuleData);
    }
  }

  struct Stack {
    uint64_t guard = 0;  // bytes of the guard below it
    uint64_t length = 0;
  };

  void PaintStacks() {
    for (const MemoryArea& area : map_.areas) {
      if (area.kind == AreaKind::kStack) painting_.Paint(area.begin, area.end, Owner::kMainStack);
    }
    std::vector<Stack> known = {{layout_.page_bytes, kUsualStackBytes}};
    std::vector<uint64_t> threads = map_.threads;
    std::sort(threads.begin(), threads.end());
    uint64_t floor = 0;  // the end of the stack below
    for (const uint64_t thread : threads) {
      const Range range = StackOf(thread, floor);
      if (range.begin == range.end) continue;
      painting_.Paint(range.begin, range.end, Owner::kThreadStack);
      known.push_back({range.guard, range.end - range.begin});
      floor = range.end;
    }
    // glibc keeps stacks of threads that ended for the next ones.
    for (size_t i = 1; i < map_.areas.size(); ++i) {
      const MemoryArea& guard = map_.areas[i - 1];
      const MemoryArea& area = map_.areas[i];
      if (!IsGuardOf(guard, area) || painting_.At(area.begin)->second.owner != Owner::kUnknown) {
        continue;
      }
      for (const Stack& stack : known) {
        if (guard.end - guard.begin != stack.guard || area.end - area.begin < stack.length) {
          continue;
        }
        painting_.Paint(area.begin, area.begin + stack.length, Owner::kThreadStack);
        break;
      }
    }
  }

  static bool IsGuardOf(const MemoryArea& guard, const MemoryArea& area) {
    return guard.kind == AreaKind::kAnonymous && area.kind == AreaKind::kAnonymous &&
           !guard.shared && !area.shared && guard.protection == 0 &&
           (area.protection & kWrite) != 0 && guard.end == area.begin;
  }

  struct Range {
    uint64_t begin = 0;
    uint64_t end = 0;
    uint64_t guard = 0;
  };
  // The stack at whose top this thread's control block lies; not below `floor`.
  Range StackOf(uint64_t thread, uint64_t floor) const {
    const auto next = std::upper_bound(
        map_.areas.begin(), map_.areas.end(), thread,
        [](uint64_t address, const MemoryArea& area) { return address < area.begin; });
    if (next == map_.areas.begin()) return {};
    const auto area = next - 1;
    if (thread >= area->end || area->kind != AreaKind::kAnonymous || area->shared) return {};
    Range range;
    const uint64_t page = layout_.page_bytes;
    range.begin = std::max(area->begin, floor);
    range.end = std::min(area->end, (thread + kBehindRobustList + page - 1) & ~(page - 1));
    if (range.begin >= range.end) return {};
    if (area != map_.areas.begin() && IsGuardOf(*(area - 1), *area)) {
      range.guard = (area - 1)->end - (area - 1)->begin;
    }
    return range;
  }

  void PaintNames() {
    for (size_t i = 0; i < map_.areas.size(); ++i) {
      const MemoryArea& area = map_.areas[i];
      if (area.kind != AreaKind::kNamed || area.shared) continue;
      painting_.Paint(area.begin, area.end,
                      absl::StrContains(area.name, "Go: heap") ? Owner::kGoHeap : Owner::kNamed,
                      static_cast<uint32_t>(i));
    }
  }

  void PaintGo() {
    for (const MemoryArea& area : map_.areas) {
      if (!IsAnonymous(area) || area.begin / kGoSpan == 0) continue;
      if ((area.begin / kGoSpan & kGoArenaMask) == kGoArenaByte && area.end < uint64_t{1} << 47) {
        painting_.Paint(area.begin, area.end, Owner::kGoHeap);
      }
    }
  }

  void PaintMalloc() {
    const bool glibc = layout_.glibc_malloc || !map_.heaps.empty();
    if (glibc) {
      for (const MemoryArea& area : map_.areas) {
        if (area.kind != AreaKind::kHeap) continue;
        // What the program itself got by moving the break stays its own.
        for (uint64_t at = area.begin; at < area.end;) {
          const auto stroke = painting_.At(at);
          at = stroke->second.end;
          if (stroke->second.owner != Owner::kMapping) stroke->second.owner = Owner::kMainArena;
        }
      }
      for (uint32_t i = 0; i < map_.heaps.size(); ++i) {
        const uint64_t heap = map_.heaps[i].address;
        painting_.Paint(heap, heap + kArenaHeapBytes, Owner::kArenaHeap, i);
      }
    }
    const std::vector<LaidBlock>& blocks = layout_.blocks;
    const uint64_t page = layout_.page_bytes;
    for (size_t i = 0; i < blocks.size();) {
      const uint64_t address = blocks[i].address;
      const auto stroke = painting_.At(address);
      if (stroke == painting_.strokes().end()) {
        ++i;
        continue;
      }
      const Owner owner = stroke->second.owner;
      if (owner == Owner::kUnknown && !glibc) {
        stroke->second.owner = Owner::kAllocator;
      } else if (glibc && owner != Owner::kMainArena && owner != Owner::kArenaHeap) {
        const uint64_t chunk = address < kChunkHeader ? 0 : address - kChunkHeader;
        const uint64_t size = std::min(blocks[i].size, uint64_t{1} << 48);
        const uint64_t begin = chunk & ~(page - 1);
        const uint64_t end = (chunk + ChunkBytes(size) + 8 + page - 1) & ~(page - 1);
        painting_.Paint(begin, end, Owner::kMappedChunk);
        ++i;
        continue;
      }
      // The others in this range tell nothing new.
      const uint64_t end = stroke->second.end;
      i = static_cast<size_t>(
          std::lower_bound(blocks.begin() + static_cast<std::ptrdiff_t>(i) + 1, blocks.end(), end,
                           [](const LaidBlock& block, uint64_t at) { return block.address < at; }) -
          blocks.begin());
    }
  }

  void PaintOwnStack() {
    for (const uint64_t thread : map_.own_threads) {
      const Range range = StackOf(thread, 0);
      // Neighbours without a guard between them are one mapping: the stack below it is not ours.
      uint64_t begin = range.begin;
      for (const uint64_t other : map_.threads) {
        if (other < thread && other >= begin) begin = StackOf(other, 0).end;
      }
      painting_.Paint(begin, range.end, Owner::kTracer);
    }
  }

  const MemoryLayout& layout_;
  const MemoryMap& map_;
  Painting painting_;
};

}  // namespace

bool IsTracerFile(const std::string& path) {
  const absl::string_view name = absl::string_view(path).substr(path.rfind('/') + 1);
  return absl::StartsWith(name, "libollamatrace") || absl::EndsWith(name, ".journal");
}

std::vector<OwnedRange> FindOwners(const MemoryLayout& layout) { return OwnerSearch(layout).Run(); }

}  // namespace ollamatrace
