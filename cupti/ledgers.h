#ifndef OLLAMATRACE_CUPTI_LEDGERS_H_
#define OLLAMATRACE_CUPTI_LEDGERS_H_

// The GPU's memory as the program's calls make it: what is live in each domain on each device, and
// what each call means for it. Tells the trace (capture_api.h).
//
// Not thread-safe: the caller holds one lock around everything.
//
// A free is recorded when the call begins, as the address may be given to somebody else before it
// returns. When the call fails, the block is put back: the trace gets another Alloc of it and a
// GpuFailure, which says that neither was a call.
//
// Physical memory of cuMemCreate is live as long as handles or mappings hold it: a program may
// release the handle right after it has mapped it, as ggml does, and unmap it all at once much
// later.

#include <cstddef>
#include <cstdint>

#include "cupti/block_table.h"
#include "formats/gpu_records.h"
#include "formats/trace_format.h"
#include "preload/capture_api.h"

namespace ollamatrace::cupti {

// What a call allocated.
struct Allocation {
  Domain domain = Domain::kDevice;
  uint64_t address = 0;
  uint64_t size = 0;
  uint64_t owner = 0;
  uint32_t device = kNoDevice;
  uint32_t context = 0;  // as in GpuPlaceRecord
  uint32_t stack = 0;
};

class Ledgers {
 public:
  void Init(const OllamatraceCaptureApi* api);

  // Numbers the events: what was added after a call began has a greater one.
  uint64_t Now() const { return events_; }

  // After a call that began at `began` has succeeded. A block that a call within this call added is
  // the same one.
  void Allocated(const Allocation& allocation, uint64_t began);

  // A call begins that ends blocks. What it answers goes to End with the call's status (0: it
  // succeeded); 0 when nothing is known of what it frees.
  using Call = uint64_t;
  // The block at `address`, in the first of the domains that has one there.
  Call BeginFree(const Domain* domains, size_t count, uint64_t address);
  // All of one owner in a domain.
  Call BeginFreeOwned(Domain domain, uint64_t owner);
  // A handle of physical memory.
  Call BeginRelease(uint64_t handle);
  // All mappings that begin in [address, address + size).
  Call BeginUnmap(uint64_t address, uint64_t size);
  void End(Call call, uint32_t status);

  // Another handle of physical memory that has one; false when it is not known.
  bool Retained(uint64_t handle);

  // Blocks of the context in domains that end with it. `device`: its pools', too; kNoDevice: none.
  void ContextEnded(uint32_t context, uint32_t device);

  // An allocation that failed.
  void Failed(Domain domain, uint64_t size, uint32_t status, uint32_t stack);

  // Writes the ledgers that changed since the last time.
  void WriteLedgers();

 private:
  static constexpr size_t kDomains = 32;
  static constexpr size_t kDevices = 65;  // ordinal + 1; the last one stands for all beyond

  struct Total {
    uint64_t live_bytes = 0;
    uint64_t live_blocks = 0;
    uint64_t peak_bytes = 0;
    bool changed = false;
  };
  Total& TotalOf(const Block& block);

  void Added(Block* block);          // to the trace and the totals, and into the table
  void Removed(const Block& block);  // from the trace and the totals; it is out of the table
  void Drop(Block* physical, Block** list);  // if nothing holds it any more
  Block* FindPhysical(uint64_t handle) const;
  void DefineFailure(GpuFailureKind kind, Domain domain, uint64_t size, uint32_t status,
                     uint32_t stack);

  const OllamatraceCaptureApi* api_ = nullptr;
  BlockTable blocks_;
  uint64_t events_ = 1;
  Total totals_[kDomains][kDevices];
};

}  // namespace ollamatrace::cupti

#endif  // OLLAMATRACE_CUPTI_LEDGERS_H_
