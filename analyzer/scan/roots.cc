#include "analyzer/scan/roots.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/string_view.h"
#include "analyzer/diagnose/pages.h"
#include "analyzer/diagnose/pages_owners.h"

namespace ollamatrace {
namespace {

constexpr uint8_t kReadWrite = 3;
constexpr uint64_t kRedZone = 128;  // System V ABI for x86-64
// glibc's struct pthread at the end of a thread's stack (2304 bytes in 2.36, aligned to 64), behind
// its thread-local storage.
constexpr uint64_t kThreadControlBlock = 2304 + 64;

bool IsCLibrary(const std::string& path) {
  const absl::string_view name = absl::string_view(path).substr(path.rfind('/') + 1);
  return absl::StartsWith(name, "libc.so") || absl::StartsWith(name, "libc-2");
}

class RootSearch {
 public:
  RootSearch(const MemoryLayout& layout, absl::Span<const uint64_t> stack_pointers,
             bool unknown_blocks)
      : layout_(layout),
        unknown_blocks_(unknown_blocks),
        stack_pointers_(stack_pointers.begin(), stack_pointers.end()) {
    std::sort(stack_pointers_.begin(), stack_pointers_.end());
  }

  Roots Run() {
    for (const OwnedRange& range : FindOwners(layout_)) AddOwned(range);
    for (const MemoryArea& area : layout_.map.areas) AddFile(area);
    return std::move(roots_);
  }

 private:
  void Add(uint64_t begin, uint64_t end, bool exact_only = false) {
    if (begin < end) roots_.ranges.push_back({begin, end, exact_only});
  }

  void AddOwned(const OwnedRange& range) {
    switch (range.owner) {
      case Owner::kUnknown:
      case Owner::kMapping:
      case Owner::kGoHeap:
      case Owner::kModuleData:
      case Owner::kLoader:
      case Owner::kNamed:
        return Add(range.begin, range.end);
      case Owner::kThreadStack:
      case Owner::kMainStack:
        return AddStack(range);
      case Owner::kMainArena:
      case Owner::kArenaHeap:
      case Owner::kMappedChunk:
      case Owner::kAllocator:
        if (unknown_blocks_) AddBetweenBlocks(range);
        // A thread may have its stack in a block.
        for (const uint64_t pointer : stack_pointers_) {
          if (pointer >= range.begin && pointer < range.end)
            roots_.words.push_back(BlockAt(pointer));
        }
        return;
      case Owner::kTracer:
        return;
    }
  }

  void AddBetweenBlocks(const OwnedRange& range) {
    auto block =
        std::lower_bound(layout_.blocks.begin(), layout_.blocks.end(), range.begin,
                         [](const LaidBlock& one, uint64_t at) { return one.address < at; });
    uint64_t at = range.begin;
    if (block != layout_.blocks.begin()) at = std::max(at, EndOf(*(block - 1)));
    for (; block != layout_.blocks.end() && block->address < range.end; ++block) {
      Add(at, block->address, /*exact_only=*/true);
      at = std::max(at, EndOf(*block));
    }
    Add(at, range.end, /*exact_only=*/true);
  }

  static uint64_t EndOf(const LaidBlock& block) { return block.address + block.size; }

  uint64_t BlockAt(uint64_t address) const {
    const auto next =
        std::upper_bound(layout_.blocks.begin(), layout_.blocks.end(), address,
                         [](uint64_t at, const LaidBlock& block) { return at < block.address; });
    return next == layout_.blocks.begin() ? 0 : (next - 1)->address;
  }

  void AddStack(const OwnedRange& range) {
    const auto first =
        std::lower_bound(stack_pointers_.begin(), stack_pointers_.end(), range.begin);
    if (first != stack_pointers_.end() && *first < range.end) {
      return Add(std::max(range.begin, *first - std::min(*first, kRedZone)), range.end);
    }
    // Its thread runs on another stack now (a signal's, a goroutine's), or it has ended.
    const auto within = [&](uint64_t thread) {
      return thread >= range.begin && thread < range.end;
    };
    const bool lives = range.owner == Owner::kMainStack ||
                       std::any_of(layout_.map.threads.begin(), layout_.map.threads.end(), within);
    // libc keeps the stacks of threads that ended for the next ones, each with its control block:
    // of what lies there, that alone is still used. It holds the thread's result until somebody
    // joins it.
    const uint64_t length = range.end - range.begin;
    Add(lives ? range.begin : range.end - std::min(length, kThreadControlBlock), range.end);
  }

  void AddFile(const MemoryArea& area) {
    if (IsAnonymous(area) || area.kind == AreaKind::kOther || IsTracerFile(area.name)) return;
    if (area.shared) {
      if ((area.protection & kReadWrite) == kReadWrite) Add(area.begin, area.end);
    } else if (area.anonymous + area.swap > 0 && (area.protection & 1) != 0) {
      Add(area.begin, area.end, IsCLibrary(area.name));
    }
  }

  const MemoryLayout& layout_;
  const bool unknown_blocks_;
  std::vector<uint64_t> stack_pointers_;
  Roots roots_;
};

}  // namespace

Roots FindRoots(const MemoryLayout& layout, absl::Span<const uint64_t> stack_pointers,
                bool unknown_blocks) {
  return RootSearch(layout, stack_pointers, unknown_blocks).Run();
}

}  // namespace ollamatrace
