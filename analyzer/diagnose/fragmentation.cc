#include "analyzer/diagnose/fragmentation.h"

#include <algorithm>
#include <functional>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_format.h"
#include "absl/types/span.h"
#include "analyzer/diagnose/pages.h"
#include "analyzer/diagnose/pages_owners.h"

namespace ollamatrace {
namespace {

// glibc 2.36 on 64 bits.
constexpr uint64_t kMinChunk = 32;           // MINSIZE
constexpr uint64_t kChunkStruct = 48;        // sizeof(struct malloc_chunk): what mtrim leaves alone
constexpr uint64_t kThreadCacheChunk = 656;  // a thread's tcache, its first allocation
constexpr uint64_t kHeapInfo = 48;
constexpr uint64_t kArenaState = 2208;    // struct malloc_state, in an arena's first heap
constexpr uint64_t kMaxFastChunk = 128;   // M_MXFAST: smaller ones are not joined when freed
constexpr uint64_t kTopPad = 128u << 10;  // M_TOP_PAD
constexpr uint64_t kFencepostBytes = 32;  // at the end of a heap that is not its arena's last

struct Heap {
  std::string name;
  uint64_t arena = 0;
  uint64_t begin = 0;
  uint64_t end = 0;
  bool glibc = true;
  uint64_t used_at_begin = 0;  // by the allocator itself
  enum class End { kBreak, kTop, kFenceposts, kUnknown } end_kind = End::kUnknown;
  absl::Span<const LaidBlock> blocks;
};

class FragmentationSearch {
 public:
  explicit FragmentationSearch(const ProcessHistory& history)
      : layout_(*history.layout), page_(layout_.page_bytes), pages_(layout_.map) {
    pins_.resize(history.layout_keys.size());
    last_page_.resize(pins_.size());
    last_block_.resize(pins_.size());
    for (uint32_t key = 0; key < pins_.size(); ++key) pins_[key].key = key;
  }

  Fragmentation Run(size_t max_pins) {
    result_.time_ns = layout_.map.time_ns;
    FindHeaps();
    for (const Heap& heap : heaps_) {
      result_.heaps.push_back(Measure(heap));
      const HeapFragmentation& one = result_.heaps.back();
      result_.held += one.held;
      result_.live_bytes += one.live_bytes;
      result_.free_held += one.free_held;
      result_.trimmable += one.trimmable;
      result_.pinned += one.pinned;
      result_.exact = result_.exact && pages_.Exact(heap.begin, heap.end);
    }
    std::stable_sort(
        result_.heaps.begin(), result_.heaps.end(),
        [](const HeapFragmentation& a, const HeapFragmentation& b) { return a.held > b.held; });
    RankPins(max_pins);
    return std::move(result_);
  }

 private:
  void FindHeaps() {
    for (const OwnedRange& range : FindOwners(layout_)) {
      Heap heap;
      heap.begin = range.begin;
      heap.end = range.end;
      switch (range.owner) {
        case Owner::kMainArena:
          heap.name = "main arena";
          heap.used_at_begin = kThreadCacheChunk;
          heap.end_kind = Heap::End::kBreak;
          break;
        case Owner::kArenaHeap: {
          const ArenaHeap& found = layout_.map.heaps[range.index];
          // What is reserved and not opened yet holds no page.
          heap.end = EndOfOpened(range);
          heap.name = absl::StrFormat("arena 0x%x", found.arena);
          heap.arena = found.arena;
          const bool first = found.previous == 0;
          heap.used_at_begin = first ? kHeapInfo + kArenaState + kThreadCacheChunk : kHeapInfo;
          const bool last =
              std::none_of(layout_.map.heaps.begin(), layout_.map.heaps.end(),
                           [&](const ArenaHeap& other) { return other.previous == found.address; });
          heap.end_kind = last ? Heap::End::kTop : Heap::End::kFenceposts;
          if (!first) heap.name += absl::StrFormat(", heap 0x%x", found.address);
          break;
        }
        case Owner::kAllocator:
          heap.glibc = false;
          heap.name = absl::StrFormat("allocator of unknown kind, 0x%x", range.begin);
          break;
        default:
          continue;
      }
      // Cut in pieces by something else that was painted on it, a main arena is one heap still.
      if (range.owner == Owner::kMainArena && !heaps_.empty() &&
          heaps_.back().end_kind == Heap::End::kBreak) {
        heaps_.back().end_kind = Heap::End::kUnknown;
      }
      heap.blocks = BlocksIn(heap.begin, heap.end);
      heaps_.push_back(std::move(heap));
    }
  }

  uint64_t EndOfOpened(const OwnedRange& range) const {
    uint64_t end = range.begin;
    for (const MemoryArea& area : layout_.map.areas) {
      if (area.end <= end || area.begin >= range.end) continue;
      if (area.begin > end || (area.protection & 3) != 3) break;
      end = std::min(area.end, range.end);
    }
    return end;
  }

  absl::Span<const LaidBlock> BlocksIn(uint64_t begin, uint64_t end) const {
    const auto below = [](const LaidBlock& block, uint64_t at) { return block.address < at; };
    const auto& blocks = layout_.blocks;
    const auto first = std::lower_bound(blocks.begin(), blocks.end(), begin, below);
    const auto last = std::lower_bound(first, blocks.end(), end, below);
    return absl::MakeConstSpan(blocks).subspan(static_cast<size_t>(first - blocks.begin()),
                                               static_cast<size_t>(last - first));
  }

  struct Chunk {
    uint64_t begin = 0;
    uint64_t end = 0;
  };
  static Chunk ChunkOf(const Heap& heap, const LaidBlock& block) {
    const uint64_t size = std::min(block.size, uint64_t{1} << 48);
    if (!heap.glibc) {
      return {block.address, std::min(block.address + size, heap.end)};
    }
    const uint64_t begin =
        block.address - heap.begin < kChunkHeader ? heap.begin : block.address - kChunkHeader;
    return {begin, std::clamp(begin + ChunkBytes(size), begin, heap.end)};
  }

  // Calls `visit(begin, end, last, coalesced)` for each run without a chunk that `keep` keeps;
  // `coalesced`: one that it does not keep would be joined with its neighbours as it is freed.
  template <typename Keep, typename Visit>
  void ForEachFreeRun(const Heap& heap, const Keep& keep, const Visit& visit) const {
    uint64_t at = std::min(heap.begin + heap.used_at_begin, heap.end);
    bool coalesced = false;
    for (const LaidBlock& block : heap.blocks) {
      const Chunk chunk = ChunkOf(heap, block);
      if (!keep(block)) {
        coalesced = coalesced || chunk.end - chunk.begin > kMaxFastChunk;
        continue;
      }
      if (chunk.begin > at) visit(at, chunk.begin, false, coalesced);
      coalesced = false;
      at = std::max(at, chunk.end);
    }
    if (at < heap.end) visit(at, heap.end, true, coalesced);
  }

  uint64_t PageUp(uint64_t address) const { return (address + page_ - 1) & ~(page_ - 1); }
  uint64_t PageDown(uint64_t address) const { return address & ~(page_ - 1); }

  // What malloc_trim(0) would return of a free run, in held bytes.
  uint64_t TrimmedOf(const Heap& heap, uint64_t begin, uint64_t end, bool last,
                     bool coalesced) const {
    uint64_t from = PageUp(begin + kChunkStruct);
    if (last) {
      switch (heap.end_kind) {
        case Heap::End::kBreak:
          from = PageUp(begin + kMinChunk + 1);
          break;
        case Heap::End::kTop:
          // malloc_trim leaves it alone; free returns it, but for some, when it grows by more than
          // a small chunk (heap_trim).
          if (!coalesced) return 0;
          from = PageUp(begin + kMinChunk + 1 + kTopPad);
          break;
        case Heap::End::kFenceposts:
          end -= std::min(end - begin, kFencepostBytes);
          break;
        case Heap::End::kUnknown:
          break;
      }
    }
    end = PageDown(end);
    return from < end ? pages_.Bytes(from, end) : 0;
  }

  template <typename Keep>
  uint64_t Trimmed(const Heap& heap, const Keep& keep) const {
    if (!heap.glibc) return 0;  // no model of this allocator
    uint64_t bytes = 0;
    ForEachFreeRun(heap, keep, [&](uint64_t begin, uint64_t end, bool last, bool coalesced) {
      bytes += TrimmedOf(heap, begin, end, last, coalesced);
    });
    return bytes;
  }

  HeapFragmentation Measure(const Heap& heap) {
    HeapFragmentation one;
    one.name = heap.name;
    one.arena = heap.arena;
    one.size = heap.end - heap.begin;
    one.held = pages_.Bytes(heap.begin, heap.end);
    one.live_blocks = heap.blocks.size();
    uint64_t chunks_held = pages_.Bytes(heap.begin, heap.begin + heap.used_at_begin);
    for (const LaidBlock& block : heap.blocks) one.live_bytes += block.size;
    const auto all = [](const LaidBlock&) { return true; };
    uint64_t free_held = 0;
    ForEachFreeRun(heap, all, [&](uint64_t begin, uint64_t end, bool last, bool) {
      one.largest_free_run = std::max(one.largest_free_run, end - begin);
      if (last) one.free_at_end = end - begin;
      free_held += pages_.Bytes(begin, end);
    });
    one.free_held = std::min(free_held, one.held - std::min(one.held, chunks_held));
    one.trimmable = Trimmed(heap, all);
    if (pages_.Exact(heap.begin, heap.end)) {
      const uint64_t span = PageUp(heap.end) - PageDown(heap.begin);
      one.cell_bytes = page_;
      while (one.cell_bytes * kMostCells < span) one.cell_bytes *= 2;
      one.cells.resize((span + one.cell_bytes - 1) / one.cell_bytes);
    }
    MeasurePages(heap, one);
    return one;
  }

  // Page by page: how much of it is in use, and by whom when it is little.
  void MeasurePages(const Heap& heap, HeapFragmentation& one) {
    struct Use {
      const LaidBlock* block;
      uint64_t bytes;
    };
    std::vector<Use> uses;
    CellPins cell_pins;
    auto block = heap.blocks.begin();
    auto run = std::lower_bound(pages_.runs().begin(), pages_.runs().end(), heap.begin,
                                [](const PageRun& r, uint64_t at) { return r.end <= at; });
    for (; run != pages_.runs().end() && run->begin < heap.end; ++run) {
      const uint64_t run_end = std::min(run->end, heap.end);
      uint64_t page = std::max(run->begin, PageDown(heap.begin));
      while (page < run_end) {
        // Blocks that end before this page are done with.
        while (block != heap.blocks.end() && ChunkOf(heap, *block).end <= page) ++block;
        const uint64_t page_end = page + page_;
        if (block == heap.blocks.end() || ChunkOf(heap, *block).begin >= page_end) {
          // Free as far as the next block.
          const uint64_t next =
              block == heap.blocks.end() ? run_end : PageDown(ChunkOf(heap, *block).begin);
          const uint64_t count = (std::min(run_end, next) - page + page_ - 1) / page_;
          one.pages[0] += count;
          for (uint64_t i = 0; i < count; ++i, page += page_) {
            if (HeapCell* cell = CellOf(heap, page, one))
              cell->held += static_cast<uint32_t>(page_);
          }
          continue;
        }
        uses.clear();
        uint64_t used = 0;
        for (auto it = block; it != heap.blocks.end(); ++it) {
          const Chunk chunk = ChunkOf(heap, *it);
          if (chunk.begin >= page_end) break;
          const uint64_t from = std::max(chunk.begin, page);
          const uint64_t bytes = std::min(chunk.end, page_end) - std::min(from, chunk.end);
          if (bytes == 0) continue;
          used += bytes;
          uses.push_back({&*it, bytes});
        }
        used = std::min(used, page_);
        ++one.pages[used == 0 ? 0 : std::min<uint64_t>(10, 1 + (used * 10 - 1) / page_)];
        HeapCell* cell = CellOf(heap, page, one);
        if (cell != nullptr) {
          cell->held += static_cast<uint32_t>(page_);
          cell->used += static_cast<uint32_t>(used);
        }
        if (used > 0 && static_cast<double>(used) < kPinnedBelow * static_cast<double>(page_)) {
          one.pinned += page_ - used;
          for (const Use& use : uses) {
            AddPin(*use.block, page_ - used, use.bytes, used, page);
            if (cell != nullptr)
              cell_pins.Add(*cell, use.block->key, (page_ - used) * use.bytes / used);
          }
        }
        page = page_end;
      }
    }
  }

  HeapCell* CellOf(const Heap& heap, uint64_t page, HeapFragmentation& one) const {
    if (one.cells.empty()) return nullptr;
    return &one.cells[(page - PageDown(heap.begin)) / one.cell_bytes];
  }

  // Finds who pins the most of each cell; cells are visited one after the other.
  class CellPins {
   public:
    void Add(HeapCell& cell, uint32_t key, uint64_t bytes) {
      if (std::exchange(cell_, &cell) != &cell) {
        pinned_.clear();
        most_ = 0;
      }
      const uint64_t pinned = pinned_[key] += bytes;
      if (pinned <= most_) return;
      most_ = pinned;
      cell.key = key;
    }

   private:
    const HeapCell* cell_ = nullptr;
    absl::flat_hash_map<uint32_t, uint64_t> pinned_;  // of this cell, by key
    uint64_t most_ = 0;
  };

  void AddPin(const LaidBlock& block, uint64_t unused, uint64_t bytes, uint64_t used,
              uint64_t page) {
    if (block.key >= pins_.size()) return;
    Pin& pin = pins_[block.key];
    pin.pinned += unused * bytes / used;
    if (std::exchange(last_page_[block.key], page) != page) ++pin.pages;
    if (std::exchange(last_block_[block.key], block.address) != block.address) {
      ++pin.blocks;
      pin.bytes += block.size;
    }
  }

  void RankPins(size_t max_pins) {
    std::vector<Pin> pins;
    for (const Pin& pin : pins_) {
      if (pin.pinned > 0) pins.push_back(pin);
    }
    std::stable_sort(pins.begin(), pins.end(),
                     [](const Pin& a, const Pin& b) { return a.pinned > b.pinned; });
    if (pins.size() > max_pins) pins.resize(max_pins);
    AddTopPin(pins);
    std::vector<bool> freed(pins_.size(), false);
    for (Pin& pin : pins) {
      pin.released = Released([&](const LaidBlock& block) { return block.key != pin.key; });
      freed[pin.key] = true;
    }
    result_.released_by_all = Released(
        [&](const LaidBlock& block) { return block.key >= freed.size() || !freed[block.key]; });
    std::stable_sort(pins.begin(), pins.end(), [](const Pin& a, const Pin& b) {
      return std::pair(a.released, a.pinned) > std::pair(b.released, b.pinned);
    });
    result_.pins = std::move(pins);
  }

  // Whoever keeps the break up, where much is free below.
  void AddTopPin(std::vector<Pin>& pins) const {
    for (const Heap& heap : heaps_) {
      if (heap.end_kind != Heap::End::kBreak || heap.blocks.empty()) continue;
      const uint32_t key = heap.blocks.back().key;
      if (key >= pins_.size()) return;
      if (std::any_of(pins.begin(), pins.end(), [&](const Pin& pin) { return pin.key == key; })) {
        return;
      }
      pins.push_back(pins_[key]);
    }
  }

  template <typename Keep>
  uint64_t Released(const Keep& keep) const {
    uint64_t bytes = 0;
    for (const Heap& heap : heaps_) bytes += Trimmed(heap, keep);
    return bytes - std::min(bytes, result_.trimmable);
  }

  const MemoryLayout& layout_;
  const uint64_t page_;
  const HeldPages pages_;
  std::vector<Heap> heaps_;
  std::vector<Pin> pins_;  // by key
  std::vector<uint64_t> last_page_, last_block_;
  Fragmentation result_;
};

}  // namespace

Fragmentation FindFragmentation(const ProcessHistory& history, size_t max_pins) {
  return FragmentationSearch(history).Run(max_pins);
}

}  // namespace ollamatrace
