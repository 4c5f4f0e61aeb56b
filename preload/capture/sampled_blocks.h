#ifndef OLLAMATRACE_PRELOAD_CAPTURE_SAMPLED_BLOCKS_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_SAMPLED_BLOCKS_H_

// The live blocks that mode sample drew: what tells free, in a few instructions, that a block was
// not drawn.
//
// Two stages. A filter: one small counter for each block hashed there, 0 for "none of these was
// drawn". What passes it (a drawn block, or one that shares a counter with one) is looked for in an
// exact table of addresses. So a block that was drawn is always found, and none that was not ever
// is; sharing costs time alone.
//
// The table is a row of tables, each four times as large as the one before, and each made of
// buckets of one cache line: an address goes into the first of its buckets (one in each table) that
// has room. A bucket counts the addresses that had to pass it, so that a search ends where nothing
// lies behind. Few blocks touch little memory; there is nothing to rebuild.
//
// Thread-safe and without locks. An address is added and removed by the thread that owns the block:
// after the allocation that returned it and before its pointer is given out, before the free that
// gives it back. A signal handler may leave Add or Remove by longjmp at any instruction: a counter
// stays too high, or an address stays in the table, and both cost time alone.

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ollamatrace {

class SampledBlocks {
 public:
  static constexpr uint32_t kCells = 128u << 10;

  // False: the block is not in the table. True: it may be.
  bool MayContain(const void* block) const {
    return cells_[Cell(Address(block))].load(std::memory_order_relaxed) != 0;
  }

  // Bytes for Init, of which pages are touched as they are needed.
  static size_t TableBytes();
  // `memory`: TableBytes of zeros, aligned to 64; it must outlive the last use. Before any other
  // call but MayContain.
  void Init(void* memory);
  // For blocks that are none of the allocator's: MayContain says true from now on, and Clear
  // does not change that.
  void Suspect(const void* block);
  // Empty again, as after construction. No other thread is there (a fork child).
  void Clear();

  // Not of nullptr. False: there is no room, and nothing was done. A block that is there already
  // stays.
  bool Add(const void* block);
  // Whether the block was there. nullptr never is.
  bool Remove(const void* block);

 private:
  struct alignas(64) Bucket {
    static constexpr int kPlaces = 7;
    std::atomic<uint64_t> blocks[kPlaces];  // addresses; 0: free
    std::atomic<uint64_t> passed;           // addresses in later tables that found this one full
  };
  static_assert(sizeof(Bucket) == 64);

  static uint64_t Address(const void* block) { return reinterpret_cast<uint64_t>(block); }
  // A cell is for what lies in the same 64 bytes, so a line of cells is touched no more often than
  // a page of blocks; and for what lies there 8 MiB further, and so on.
  static uint32_t Cell(uint64_t address) {
    return static_cast<uint32_t>(address >> 6) & (kCells - 1);
  }

  Bucket* BucketIn(int table, uint64_t address) const;

  std::atomic<uint8_t> cells_[kCells] = {};
  Bucket* tables_ = nullptr;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_SAMPLED_BLOCKS_H_
