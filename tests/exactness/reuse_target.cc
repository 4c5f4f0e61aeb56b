// reuse_target RESULT EVENTS: 8 threads pass blocks to each other, so that the allocator hands out
// each address again and again, to one thread what another has just freed; until there were EVENTS
// of them (allocations and frees). RESULT says what was done and which blocks are left, one line
// each.
#include <atomic>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "tests/exactness/op_log.h"

namespace {

constexpr int kThreads = 8;
constexpr int kPlaces = 512;

struct Block {
  uint64_t size;
};

std::atomic<Block*> places[kPlaces];

struct alignas(64) Counts {
  uint64_t allocations = 0, frees = 0, bytes = 0;
};
Counts counts[kThreads];

// Few sizes: an address comes back as soon as it is free.
uint64_t SizeOf(uint64_t random) {
  return (1 + random % 3) * ollamatrace::kHeapUnit + ollamatrace::kHeapMark;
}

void Work(int thread, uint64_t events) {
  uint64_t random = static_cast<uint64_t>(thread) * 0x9E3779B97F4A7C15u + 88172645463325252u;
  Counts& mine = counts[thread];
  while (mine.allocations + mine.frees < events) {
    random ^= random << 13;
    random ^= random >> 7;
    random ^= random << 17;
    Block* block = nullptr;
    if (random >> 60 != 0) {
      const uint64_t size = SizeOf(random >> 32);
      block = static_cast<Block*>(malloc(size));
      if (block == nullptr) abort();
      block->size = size;
      ++mine.allocations;
      mine.bytes += size;
    }
    // Whose block this was is not known here.
    Block* other = places[random % kPlaces].exchange(block, std::memory_order_acq_rel);
    if (other != nullptr) {
      free(other);
      ++mine.frees;
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  const uint64_t events = strtoull(argv[2], nullptr, 10) / kThreads;
  std::vector<std::thread> threads;
  for (int i = 0; i < kThreads; ++i) threads.emplace_back(Work, i, events);
  for (std::thread& thread : threads) thread.join();
  FILE* result = fopen(argv[1], "w");
  if (result == nullptr) return 2;
  Counts total;
  for (const Counts& one : counts) {
    total.allocations += one.allocations;
    total.frees += one.frees;
    total.bytes += one.bytes;
  }
  fprintf(result, "%" PRIu64 " %" PRIu64 " %" PRIu64 "\n", total.allocations, total.frees,
          total.bytes);
  for (const auto& place : places) {
    const Block* block = place.load();
    if (block != nullptr) {
      fprintf(result, "%" PRIu64 " %" PRIu64 "\n", reinterpret_cast<uint64_t>(block), block->size);
    }
  }
  return fclose(result) == 0 ? 0 : 2;
}
