#include "cupti/block_table.h"

namespace ollamatrace::cupti {
namespace {

constexpr size_t kFirstBuckets = 1024;
constexpr size_t kSlabBytes = 256u << 10;

}  // namespace

Block** BlockTable::Bucket(Domain domain, uint64_t address) const {
  const uint64_t hash =
      ((address >> 4) ^ static_cast<uint64_t>(domain) << 56) * UINT64_C(0x9E3779B97F4A7C15);
  return &buckets_[hash >> 32 & (buckets_count_ - 1)];
}

Block* BlockTable::New() {
  if (free_ == nullptr) {
    auto* const slab = static_cast<Block*>(memory_(kSlabBytes));
    if (slab == nullptr) return nullptr;
    for (size_t i = kSlabBytes / sizeof(Block); i > 0; --i) Delete(&slab[i - 1]);
  }
  Block* const block = free_;
  free_ = block->next;
  *block = Block{};
  return block;
}

void BlockTable::Delete(Block* block) {
  block->next = free_;
  free_ = block;
}

Block* BlockTable::Find(Domain domain, uint64_t address) const {
  if (buckets_count_ == 0) return nullptr;
  Block* block = *Bucket(domain, address);
  while (block != nullptr && (block->address != address || block->domain != domain)) {
    block = block->next;
  }
  return block;
}

bool BlockTable::Grow() {
  const size_t count = buckets_count_ == 0 ? kFirstBuckets : buckets_count_ * 4;
  auto* const buckets = static_cast<Block**>(memory_(count * sizeof(Block*)));
  if (buckets == nullptr) return false;
  Block* all = nullptr;
  TakeIf([](const Block&) { return true; }, &all);
  buckets_ = buckets;
  buckets_count_ = count;
  while (all != nullptr) {
    Block* const next = all->next;
    Block** const bucket = Bucket(all->domain, all->address);
    all->next = *bucket;
    *bucket = all;
    ++used_;
    all = next;
  }
  return true;
}

bool BlockTable::Add(Block* block) {
  // Without memory for more buckets it gets slower, and that is all.
  if (used_ >= buckets_count_ && !Grow() && buckets_count_ == 0) return false;
  Block** const bucket = Bucket(block->domain, block->address);
  block->next = *bucket;
  *bucket = block;
  ++used_;
  return true;
}

void BlockTable::Take(Block* block) {
  Block** link = Bucket(block->domain, block->address);
  while (*link != block) link = &(*link)->next;
  *link = block->next;
  block->next = nullptr;
  --used_;
}

}  // namespace ollamatrace::cupti
