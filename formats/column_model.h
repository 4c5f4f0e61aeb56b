// What the columns of a chunk are predicted from: the state that the writer of columns and their
// reader keep in step. The prose is in FORMAT.md, "Columns".
//
// No dependencies, no allocation: the injected library and the reader share it. All of it starts
// afresh in each chunk.
#ifndef OLLAMATRACE_FORMATS_COLUMN_MODEL_H_
#define OLLAMATRACE_FORMATS_COLUMN_MODEL_H_

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ollamatrace {

// The columns, in the order in which they are stored.
enum class Column : uint32_t {
  kKinds,
  kEntryLow,
  kEntryHigh,
  kNewStacks,
  kNewFunctions,
  kSizes,
  kPlaces,
  kAddresses,
  kDepths,
  kOtherFrees,
  kTimes,
  kThreads,
  kNodeCounts,
  kNodeFlags,
  kNodeIds,
  kNodeParents,
  kNodeAddresses,
  kNodeModules,
  kRecords,
};
inline constexpr uint32_t kColumnCount = 19;

// Values of the column kinds.
enum class ColumnKind : uint8_t {
  kLikely3 = 0,  // the symbol that followed the last three symbols when these came last
  kLikely2 = 1,  // ... the last two
  kLikely1 = 2,  // ... the last one
  kOtherFree = 3,
  kNewEntry = 4,
  kFree = 5,
  kAlloc = 6,
  kRecords = 7,
  kThread = 8,
  kReplaced = 9,
};

// Values of the column places: where a block is.
enum class ColumnPlace : uint8_t {
  kFirst = 0,  // the block of the same class that was freed last
  kNext = 1,   // behind the block that was allocated last
  kUnknown = 2,
  kAgain = 3,  // where the entry's last block was
  kFreed = 4,  // what was freed last
  kElsewhere = 5,
  kSecond = 6,  // and so on, up to kFirst's list's end
};
inline constexpr uint32_t kPlaceRanks = 12;  // kFirst, kSecond, ...

// Bits of the column node flags.
inline constexpr uint8_t kNodeHasId = 1;        // else one more than the node before
inline constexpr uint8_t kNodeHasParent = 2;    // else the node before
inline constexpr uint8_t kNodeHasPlace = 4;     // its place has a number; else it is the likely one
inline constexpr uint8_t kNodeNewPlace = 8;     // its place is written out
inline constexpr uint8_t kNodeNewModule = 16;   // ... and is in another module than the one before
inline constexpr uint8_t kNodeExactPlace = 32;  // ... and is exact

// Limits of a chunk of columns.
inline constexpr uint32_t kMaxColumnEvents = 1u << 17;
inline constexpr uint64_t kMaxColumnSize = uint64_t{1} << 60;  // sizes are below
inline constexpr uint32_t kMaxColumnDepth = 32;                // depths are below
inline constexpr uint32_t kMaxNodePlaces = 1u << 14;
inline constexpr uint32_t kMaxTimeShift = 20;

// A symbol: what happens, and to which entry. Entries count from 1.
inline constexpr uint32_t kOtherFreeSymbol = 0;
inline constexpr uint32_t kNewEntrySymbol = 1;
inline constexpr uint32_t FreeSymbol(uint32_t entry) { return 2 * entry; }
inline constexpr uint32_t AllocSymbol(uint32_t entry) { return 2 * entry + 1; }

// Which symbol followed which ones.
class SymbolHistory {
 public:
  static constexpr uint32_t kNever = ~uint32_t{0};

  void Start() {
    memset(after_, 0xff, sizeof(after_));
    last_[0] = last_[1] = last_[2] = 0;
    Settle();
  }
  // The likely next symbol by the last `order` (1 to 3) ones; kNever: none.
  uint32_t Likely(uint32_t order) const { return after_[order - 1][place_[order - 1]]; }
  // `coded` is what came: the symbol itself, or kNewEntrySymbol for the first of an entry.
  void Add(uint32_t coded, uint32_t symbol) {
    for (uint32_t i = 0; i < 3; ++i) after_[i][place_[i]] = coded;
    last_[2] = last_[1];
    last_[1] = last_[0];
    last_[0] = symbol;
    Settle();
  }

 private:
  static constexpr uint32_t kBits = 13;

  void Settle() {
    constexpr uint64_t kFactor = 0x9E3779B97F4A7C15;
    const uint64_t one = (uint64_t{last_[0]} + 1) * kFactor;
    const uint64_t two = (one + last_[1] + 1) * kFactor;
    const uint64_t three = (two + last_[2] + 1) * kFactor;
    place_[0] = static_cast<uint32_t>(one >> (64 - kBits));
    place_[1] = static_cast<uint32_t>(two >> (64 - kBits));
    place_[2] = static_cast<uint32_t>(three >> (64 - kBits));
  }

  uint32_t after_[3][1u << kBits];
  uint32_t last_[3];
  uint32_t place_[3];
};

// Blocks of a size are taken where one of a like size was freed. Class 0: sizes that are not known.
inline constexpr uint32_t kSizeClasses = 152;
// glibc's chunks: 16 bytes, at least 32, 8 of them its own.
inline constexpr uint64_t SizeUnits(uint64_t size) {
  return ((size < 24 ? 24 : size) + 8 + 15) / 16;
}
inline uint32_t SizeClass(uint64_t size) {
  const uint64_t units = SizeUnits(size);
  if (units < 96) return static_cast<uint32_t>(units);
  return 96 + 57 - static_cast<uint32_t>(__builtin_clzll(units));
}
static_assert(96 + 57 - 7 < kSizeClasses);  // units below 2^57

// The last addresses freed in each class, the last one first.
class FreedAddresses {
 public:
  void Start() { memset(lists_, 0, sizeof(lists_)); }
  void Push(uint32_t size_class, uint64_t address) {
    List& list = lists_[size_class];
    list.addresses[list.end++ % kLength] = address;
    if (list.count < kLength) ++list.count;
  }
  bool Has(uint32_t size_class, uint32_t rank) const { return rank < lists_[size_class].count; }
  uint64_t At(uint32_t size_class, uint32_t rank) const {
    const List& list = lists_[size_class];
    return list.addresses[(list.end - 1 - rank) % kLength];
  }
  void Remove(uint32_t size_class, uint32_t rank) {
    List& list = lists_[size_class];
    for (uint32_t i = rank; i > 0; --i) {
      list.addresses[(list.end - 1 - i) % kLength] = list.addresses[(list.end - i) % kLength];
    }
    --list.end;
    --list.count;
  }

 private:
  static constexpr uint32_t kLength = 16;
  static_assert(kPlaceRanks <= kLength);
  struct List {
    uint64_t addresses[kLength];
    uint32_t end;
    uint32_t count;
  };
  List lists_[kSizeClasses];
};

// What a chunk's events have in common: a stack and a function.
struct ColumnEntry {
  uint32_t stack;
  uint32_t newest;  // of its blocks that are live; 0: none
  uint64_t last_size;
  uint64_t last_address;
  uint8_t function;
};

// A block that was allocated in this chunk. They count from 1.
struct ColumnBlock {
  uint64_t address;
  uint64_t size;
  uint32_t entry;  // 0: freed
  uint32_t older;  // the entry's blocks that are live
  uint32_t newer;
};

// The entries and blocks of a chunk, and what is known of addresses.
class ColumnBlocks {
 public:
  void Start() {
    entries_ = 0;
    blocks_ = 0;
    next_address_ = 0;
    last_address_ = 0;
    last_freed_ = 0;
    last_other_ = 0;
    freed_.Start();
  }
  uint32_t entries() const { return entries_; }
  uint32_t blocks() const { return blocks_; }
  const ColumnEntry& entry(uint32_t index) const { return entry_[index]; }
  const ColumnBlock& block(uint32_t index) const { return block_[index]; }
  const FreedAddresses& freed() const { return freed_; }
  uint64_t next_address() const { return next_address_; }
  uint64_t last_address() const { return last_address_; }
  uint64_t last_freed() const { return last_freed_; }
  uint64_t last_other() const { return last_other_; }

  // There is room for kMaxColumnEvents of each.
  uint32_t AddEntry(uint32_t stack, uint8_t function) {
    entry_[++entries_] = {stack, 0, 0, 0, function};
    return entries_;
  }
  uint32_t Alloc(uint32_t entry_index, uint64_t address, uint64_t size) {
    ColumnEntry& entry = entry_[entry_index];
    const uint32_t index = ++blocks_;
    block_[index] = {address, size, entry_index, entry.newest, 0};
    if (entry.newest != 0) block_[entry.newest].newer = index;
    entry.newest = index;
    entry.last_size = size;
    entry.last_address = address;
    last_address_ = address;
    next_address_ = address + SizeUnits(size) * 16;
    return index;
  }
  // A block leaves its entry's list.
  void Remove(uint32_t index) {
    ColumnBlock& block = block_[index];
    if (block.newer == 0) {
      entry_[block.entry].newest = block.older;
    } else {
      block_[block.newer].older = block.older;
    }
    if (block.older != 0) block_[block.older].newer = block.newer;
    block.entry = 0;
  }
  void Free(uint32_t index) {
    Remove(index);
    last_freed_ = block_[index].address;
    freed_.Push(SizeClass(block_[index].size), last_freed_);
  }
  void FreeOther(uint64_t address) {
    last_freed_ = last_other_ = address;
    freed_.Push(0, address);
  }
  // What was freed at one of these places is free no longer.
  void Take(ColumnPlace place, uint64_t size) {
    if (place == ColumnPlace::kFirst) {
      freed_.Remove(SizeClass(size), 0);
    } else if (place == ColumnPlace::kUnknown) {
      freed_.Remove(0, 0);
    } else if (place >= ColumnPlace::kSecond) {
      freed_.Remove(SizeClass(size),
                    1 + static_cast<uint32_t>(place) - static_cast<uint32_t>(ColumnPlace::kSecond));
    }
  }

 private:
  uint32_t entries_, blocks_;
  uint64_t next_address_;  // behind the block that was allocated last
  uint64_t last_address_;  // of the block that was allocated last
  uint64_t last_freed_, last_other_;
  FreedAddresses freed_;
  ColumnEntry entry_[kMaxColumnEvents + 1];
  ColumnBlock block_[kMaxColumnEvents + 1];
};

// Where a frame of a stack is.
struct NodePlace {
  uint64_t address;
  uint32_t module;
  uint8_t exact;
};

// The places of a chunk's nodes. They count from 0; a chunk that has more than kMaxNodePlaces
// doesn't number the others.
class NodePlaces {
 public:
  static constexpr uint32_t kNone = ~uint32_t{0};

  void Start() {
    places_ = 0;
    last_id_ = 0;
    last_module_ = 0;
    last_address_ = 0;
    memset(known_, 0, sizeof(known_));
    memset(likely_, 0xff, sizeof(likely_));
  }
  uint32_t places() const { return places_; }
  const NodePlace& place(uint32_t number) const { return place_[number]; }
  uint32_t last_id() const { return last_id_; }
  uint32_t last_module() const { return last_module_; }
  uint64_t last_address() const { return last_address_; }

  // What the last callee of `parent`'s place was; kNone.
  uint32_t Likely(uint32_t parent) const { return likely_[ContextOf(parent)]; }
  // A place that has no number yet. Its number, or kNone.
  uint32_t AddPlace(const NodePlace& place) {
    last_module_ = place.module;
    last_address_ = place.address;
    if (places_ == kMaxNodePlaces) return kNone;
    place_[places_] = place;
    return places_++;
  }
  void Add(uint32_t id, uint32_t parent, uint32_t number) {
    likely_[ContextOf(parent)] = number;
    known_[id % kKnown] = {id, number};
    last_id_ = id;
  }

 private:
  static constexpr uint32_t kKnown = 1u << 13;
  static constexpr uint32_t kLikelyBits = 13;
  struct Known {
    uint32_t id;
    uint32_t number;
  };

  uint32_t ContextOf(uint32_t parent) const {
    const Known& known = known_[parent % kKnown];
    const bool is_known = known.id == parent && parent != 0 && known.number != kNone;
    const uint64_t context = is_known ? uint64_t{known.number} << 1 : uint64_t{parent} << 1 | 1;
    return static_cast<uint32_t>(((context + 1) * 0x9E3779B97F4A7C15) >> (64 - kLikelyBits));
  }

  uint32_t places_;
  uint32_t last_id_;
  uint32_t last_module_;
  uint64_t last_address_;
  Known known_[kKnown];
  uint32_t likely_[1u << kLikelyBits];
  NodePlace place_[kMaxNodePlaces];
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_COLUMN_MODEL_H_
