// What a target writes down about its own allocations, in a shared file mapping that outlives it:
// for each operation first the intent, then the outcome. Whoever reads it after the target's death
// knows of each block whether it was certainly live, certainly not, or in between.
#ifndef OLLAMATRACE_TESTS_EXACTNESS_OP_LOG_H_
#define OLLAMATRACE_TESTS_EXACTNESS_OP_LOG_H_

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ollamatrace {

enum class SlotState : uint32_t {
  kEmpty = 0,
  kAllocating = 1,  // `size` bytes are asked for; the address is not known yet.
  kLive = 2,        // At `address`, `size` bytes.
  kFreeing = 3,     // Was at `address`, `size` bytes.
  kMoving = 4,      // realloc or mremap of (`address`, `size`) to `new_size` bytes.
  kMoved = 5,       // It went through: at `new_address`, `new_size` bytes.
};

// One block at a time. Claimed by the thread that works on it; any thread may work on any slot, so
// that blocks are freed by other threads than their makers.
struct Slot {
  std::atomic<uint32_t> claimed;
  std::atomic<SlotState> state;
  // Written before the state that they belong to.
  uint64_t address;
  uint64_t size;
  uint64_t new_address;
  uint64_t new_size;
};

inline constexpr int kHeapSlots = 2048;
inline constexpr int kMappingSlots = 64;

struct OpLog {
  std::atomic<uint32_t> running;     // The threads are at work.
  std::atomic<uint64_t> operations;  // Begun.
  Slot heap[kHeapSlots];
  Slot mappings[kMappingSlots];
};

// The sizes tell the log's own blocks from all others of the process (libc's, the runtime's).
inline constexpr uint64_t kHeapUnit = 64;
inline constexpr uint64_t kHeapMark = 13;
inline constexpr bool IsMarked(uint64_t size) { return size % kHeapUnit == kHeapMark; }
// Blocks that live for a moment and are not in the log; each thread has one at most.
inline constexpr uint64_t kNoiseMark = 7;
inline constexpr bool IsNoise(uint64_t size) { return size % kHeapUnit == kNoiseMark; }
inline constexpr uint64_t kPageBytes = 4096;
inline constexpr uint64_t kMappingUnit = 8;  // Pages.
inline constexpr uint64_t kMappingMark = 5;
inline constexpr bool IsMarkedMapping(uint64_t size) {
  return size % kPageBytes == 0 && size / kPageBytes % kMappingUnit == kMappingMark;
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_TESTS_EXACTNESS_OP_LOG_H_
