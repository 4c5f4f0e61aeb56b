// kill_target LOG THREADS END OPERATIONS [no-pool]: threads that allocate, free, realloc, map,
// unmap and remap, each operation written down in LOG (op_log.h), until the process is killed, or
// ends in the way END after that many operations: none, segv, _exit, quick_exit, abort, return.
// no-pool: the library has no room to hold blocks back, and writes all of them.
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

#include "formats/journal_layout.h"
#include "tests/exactness/op_log.h"

namespace ollamatrace {
namespace {

OpLog* oplog;
std::atomic<bool> stopped{false};

class Random {
 public:
  explicit Random(uint64_t seed) : state_(seed * 2654435769u + 88172645463325252u) {}
  uint64_t Next() {
    state_ ^= state_ << 13;
    state_ ^= state_ >> 7;
    return state_ ^= state_ << 17;
  }
  uint64_t Below(uint64_t bound) { return Next() % bound; }

 private:
  uint64_t state_;
};

void End(const char* how) {
  if (strcmp(how, "segv") == 0) *reinterpret_cast<volatile int*>(uintptr_t{8}) = 1;
  if (strcmp(how, "_exit") == 0) _exit(0);
  if (strcmp(how, "quick_exit") == 0) quick_exit(0);
  if (strcmp(how, "abort") == 0) abort();
  if (strcmp(how, "return") == 0) stopped.store(true, std::memory_order_relaxed);
}

uint64_t HeapSize(Random& random) {
  // Mostly small, some beyond the sizes that malloc serves by mmap.
  const uint64_t units = random.Below(100) == 0 ? 2500 : 1 + random.Below(40);
  return units * kHeapUnit + kHeapMark;
}

uint64_t MappingSize(Random& random) {
  return (random.Below(4) * kMappingUnit + kMappingMark) * kPageBytes;
}

void* Allocate(Random& random, uint64_t size) {
  switch (random.Below(5)) {
    case 0:
      return calloc(1, size);
    case 1: {
      void* block = nullptr;
      return posix_memalign(&block, 64, size) == 0 ? block : nullptr;
    }
    case 2:
      return operator new(size);
    default:
      return malloc(size);
  }
}

// The states are stored with release order: after the death, whoever sees a state sees its fields.
void Set(Slot& slot, SlotState state) { slot.state.store(state, std::memory_order_release); }

void WorkOnBlock(Random& random, Slot& slot) {
  if (slot.state.load(std::memory_order_relaxed) == SlotState::kEmpty) {
    slot.size = HeapSize(random);
    Set(slot, SlotState::kAllocating);
    slot.address = reinterpret_cast<uint64_t>(Allocate(random, slot.size));
    Set(slot, SlotState::kLive);
  } else if (random.Below(3) == 0) {
    slot.new_size = HeapSize(random);
    Set(slot, SlotState::kMoving);
    slot.new_address =
        reinterpret_cast<uint64_t>(realloc(reinterpret_cast<void*>(slot.address), slot.new_size));
    Set(slot, SlotState::kMoved);
    slot.address = slot.new_address;
    slot.size = slot.new_size;
    Set(slot, SlotState::kLive);
  } else {
    Set(slot, SlotState::kFreeing);
    free(reinterpret_cast<void*>(slot.address));
    Set(slot, SlotState::kEmpty);
  }
}

void WorkOnMapping(Random& random, Slot& slot) {
  if (slot.state.load(std::memory_order_relaxed) == SlotState::kEmpty) {
    slot.size = MappingSize(random);
    Set(slot, SlotState::kAllocating);
    slot.address = reinterpret_cast<uint64_t>(
        mmap(nullptr, slot.size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
    Set(slot, SlotState::kLive);
  } else if (random.Below(3) == 0) {
    slot.new_size = MappingSize(random);
    Set(slot, SlotState::kMoving);
    slot.new_address = reinterpret_cast<uint64_t>(
        mremap(reinterpret_cast<void*>(slot.address), slot.size, slot.new_size, MREMAP_MAYMOVE));
    Set(slot, SlotState::kMoved);
    slot.address = slot.new_address;
    slot.size = slot.new_size;
    Set(slot, SlotState::kLive);
  } else {
    Set(slot, SlotState::kFreeing);
    munmap(reinterpret_cast<void*>(slot.address), slot.size);
    Set(slot, SlotState::kEmpty);
  }
}

void Work(uint64_t seed, const char* how, uint64_t end_after) {
  Random random(seed);
  while (!stopped.load(std::memory_order_relaxed)) {
    if (oplog->operations.fetch_add(1, std::memory_order_relaxed) + 1 == end_after) End(how);
    const bool mapping = random.Below(50) == 0;
    Slot& slot = mapping ? oplog->mappings[random.Below(kMappingSlots)]
                         : oplog->heap[random.Below(kHeapSlots)];
    if (slot.claimed.exchange(1, std::memory_order_acquire) != 0) continue;
    if (mapping) {
      WorkOnMapping(random, slot);
    } else {
      WorkOnBlock(random, slot);
    }
    slot.claimed.store(0, std::memory_order_release);
    if (random.Below(2) == 0) {
      // Dies young, in another thread's ring order than the logged ones.
      void* volatile noise = malloc((1 + random.Below(20)) * kHeapUnit + kNoiseMark);
      free(noise);
    }
  }
}

}  // namespace
}  // namespace ollamatrace

int main(int argc, char** argv) {
  using namespace ollamatrace;
  if (argc != 5 && argc != 6) return 2;
  if (argc == 6) {
    const rlimit files = {kPoolOffset, kPoolOffset};
    setrlimit(RLIMIT_FSIZE, &files);
  }
  const rlimit no_core = {0, 0};
  setrlimit(RLIMIT_CORE, &no_core);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  const int fd = open(argv[1], O_RDWR);
  if (fd < 0) return 2;
  void* memory = mmap(nullptr, sizeof(OpLog), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  if (memory == MAP_FAILED) return 2;
  close(fd);
  oplog = static_cast<OpLog*>(memory);
  const int threads = atoi(argv[2]);
  const uint64_t end_after = strtoull(argv[4], nullptr, 10);
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i) {
    workers.emplace_back(Work, static_cast<uint64_t>(getpid()) * 100 + static_cast<uint64_t>(i),
                         argv[3], end_after);
  }
  oplog->running.store(1, std::memory_order_release);
  for (std::thread& worker : workers) worker.join();
  return 0;
}
