// What is known of each stack of a process.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_STACK_TABLE_H_
#define OLLAMATRACE_ANALYZER_REPLAY_STACK_TABLE_H_

#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>

#include "absl/container/flat_hash_map.h"
#include "analyzer/replay/chunked_vector.h"
#include "formats/trace_format.h"

namespace ollamatrace {

inline constexpr uint64_t kNever = std::numeric_limits<uint64_t>::max();

// What a mapping holds. Only anonymous ones count as memory that somebody keeps: a file's pages can
// be dropped and read again, and a reservation (PROT_NONE) has no pages.
enum class MappingClass : uint8_t { kAnonymous = 0, kFile = 1, kReserved = 2 };

// Blocks with the same key are one group's worth of memory.
struct StackKey {
  StackId stack{};
  ThreadId thread{};  // 0 unless replay was asked to tell threads apart
  Domain domain = Domain::kHeap;
  MappingClass mapping = MappingClass::kAnonymous;

  friend bool operator==(const StackKey&, const StackKey&) = default;
  template <typename H>
  friend H AbslHashValue(H h, const StackKey& key) {
    return H::combine(std::move(h), static_cast<uint32_t>(key.stack),
                      static_cast<uint32_t>(key.thread), static_cast<uint8_t>(key.domain),
                      static_cast<uint8_t>(key.mapping));
  }
};

// Mode sample: figures of the heap are estimates, and these their variances. 0 for what is known.
struct Variances {
  double live_bytes = 0;  // bytes^2
  double live_blocks = 0;
  double allocations = 0;
  double frees = 0;

  void Add(const Variances& other) {
    live_bytes += other.live_bytes;
    live_blocks += other.live_blocks;
    allocations += other.allocations;
    frees += other.frees;
  }
};

// Of the blocks that were allocated within the window.
struct StackStats {
  uint64_t live_bytes = 0;
  uint64_t live_blocks = 0;
  uint64_t allocations = 0;  // folded pairs included
  uint64_t frees = 0;
  uint64_t bytes = 0;          // of all allocations
  uint64_t peak_bytes = 0;     // a lower bound in the default mode, as in DomainTotals
  uint64_t first_ns = kNever;  // of the first and the last allocation
  uint64_t last_ns = 0;
  // Of `allocations`: folded away by the library, which held them for as long as they lived.
  uint64_t folded_pairs = 0;
  uint64_t folded_lifetime_ns = 0;  // in all
  // Of the blocks that are live at the end.
  uint64_t smallest = kNever;
  uint64_t largest = 0;
  uint64_t oldest_ns = kNever;
  uint64_t newest_ns = 0;
  size_t row = 0;  // in ProcessHistory::series and ::death_ages: its number in the table
  Variances variances;
  uint64_t live_drawn = 0;  // mode sample: so many blocks stand for live_blocks
};

// Stacks in the order in which they came, each once, found by its key. Thread-compatible.
class StackTable {
 public:
  using Entry = std::pair<StackKey, StackStats>;
  using iterator = ChunkedVector<Entry>::iterator;
  using const_iterator = ChunkedVector<Entry>::const_iterator;

  // The number of the stack, which is added when it is not there.
  uint32_t RowOf(const StackKey& key) {
    const auto [it, added] = rows_.try_emplace(key, static_cast<uint32_t>(entries_.size()));
    if (added) {
      Entry& entry = entries_.push_back({key, StackStats{}});
      entry.second.row = it->second;
    }
    return it->second;
  }
  Entry& Row(uint32_t row) { return entries_[row]; }
  const Entry& Row(uint32_t row) const { return entries_[row]; }
  StackStats& operator[](const StackKey& key) { return entries_[RowOf(key)].second; }

  const_iterator find(const StackKey& key) const {
    const auto it = rows_.find(key);
    return it == rows_.end() ? end() : entries_.At(it->second);
  }
  iterator find(const StackKey& key) {
    const auto it = rows_.find(key);
    return it == rows_.end() ? end() : entries_.At(it->second);
  }
  bool contains(const StackKey& key) const { return rows_.contains(key); }
  size_t size() const { return entries_.size(); }
  bool empty() const { return entries_.empty(); }
  iterator begin() { return entries_.begin(); }
  iterator end() { return entries_.end(); }
  const_iterator begin() const { return entries_.begin(); }
  const_iterator end() const { return entries_.end(); }

 private:
  ChunkedVector<Entry> entries_;
  absl::flat_hash_map<StackKey, uint32_t> rows_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_STACK_TABLE_H_
