#include "preload/capture/sampled_blocks.h"

namespace ollamatrace {
namespace {

constexpr int kTables = 6;
constexpr int kFirstBits = 8;  // 256 buckets; 2.4 M addresses in all tables, 22 MiB
constexpr uint8_t kStuck = 255;

constexpr int Bits(int table) { return kFirstBits + 2 * table; }
// Buckets in the tables before this one: 2^8 + 2^10 + ...
constexpr size_t BucketsBefore(int table) {
  return ((size_t{1} << Bits(table)) - (size_t{1} << kFirstBits)) / 3;
}

// A counter that reached its top never comes down again: how many it stands for is not known. A
// counter that is too high costs time alone.
void Raise(std::atomic<uint8_t>* cell) {
  uint8_t count = cell->load(std::memory_order_relaxed);
  while (count != kStuck && !cell->compare_exchange_weak(count, static_cast<uint8_t>(count + 1),
                                                         std::memory_order_relaxed)) {
  }
}

void Lower(std::atomic<uint8_t>* cell) {
  uint8_t count = cell->load(std::memory_order_relaxed);
  while (count != kStuck && count != 0 &&
         !cell->compare_exchange_weak(count, static_cast<uint8_t>(count - 1),
                                      std::memory_order_relaxed)) {
  }
}

}  // namespace

size_t SampledBlocks::TableBytes() { return BucketsBefore(kTables) * sizeof(Bucket); }

void SampledBlocks::Init(void* memory) { tables_ = static_cast<Bucket*>(memory); }

void SampledBlocks::Suspect(const void* block) {
  cells_[Cell(Address(block))].store(kStuck, std::memory_order_relaxed);
}

void SampledBlocks::Clear() {
  // Only what is set is written: the other pages stay untouched.
  for (auto& cell : cells_) {
    const uint8_t count = cell.load(std::memory_order_relaxed);
    if (count != 0 && count != kStuck) cell.store(0, std::memory_order_relaxed);
  }
  tables_ = nullptr;
}

SampledBlocks::Bucket* SampledBlocks::BucketIn(int table, uint64_t address) const {
  const uint64_t hash = (address >> 4) * UINT64_C(0x9E3779B97F4A7C15);
  return &tables_[BucketsBefore(table) + (hash >> (64 - Bits(table)))];
}

bool SampledBlocks::Add(const void* block) {
  const uint64_t address = Address(block);
  // An address whose free was lost is there still.
  for (int table = 0; table < kTables; ++table) {
    const Bucket& bucket = *BucketIn(table, address);
    for (const auto& place : bucket.blocks) {
      if (place.load(std::memory_order_relaxed) == address) return true;
    }
    if (bucket.passed.load(std::memory_order_relaxed) == 0) break;
  }
  // First the counter, then the address: see above.
  Raise(&cells_[Cell(address)]);
  for (int table = 0; table < kTables; ++table) {
    Bucket* const bucket = BucketIn(table, address);
    for (auto& place : bucket->blocks) {
      uint64_t free = 0;
      if (place.load(std::memory_order_relaxed) == 0 &&
          place.compare_exchange_strong(free, address, std::memory_order_relaxed)) {
        return true;
      }
    }
    bucket->passed.fetch_add(1, std::memory_order_relaxed);
  }
  for (int table = 0; table < kTables; ++table) {
    BucketIn(table, address)->passed.fetch_sub(1, std::memory_order_relaxed);
  }
  Lower(&cells_[Cell(address)]);
  return false;
}

bool SampledBlocks::Remove(const void* block) {
  const uint64_t address = Address(block);
  if (address == 0) return false;  // what a free place holds
  for (int table = 0; table < kTables; ++table) {
    Bucket* const bucket = BucketIn(table, address);
    for (auto& place : bucket->blocks) {
      if (place.load(std::memory_order_relaxed) != address) continue;
      place.store(0, std::memory_order_relaxed);
      for (int passed = 0; passed < table; ++passed) {
        BucketIn(passed, address)->passed.fetch_sub(1, std::memory_order_relaxed);
      }
      Lower(&cells_[Cell(address)]);
      return true;
    }
    if (bucket->passed.load(std::memory_order_relaxed) == 0) return false;
  }
  return false;
}

}  // namespace ollamatrace
