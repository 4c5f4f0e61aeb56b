#include "cupti/ledgers.h"

#include "formats/encode.h"

namespace ollamatrace::cupti {
namespace {

bool EndsWithContext(Domain domain) {
  switch (domain) {
    case Domain::kDevice:
    case Domain::kManaged:
    case Domain::kPinned:
    case Domain::kArray:
    case Domain::kRegistered:
    case Domain::kGraphExec:
      return true;
    default:
      return false;  // pools, physical memory and addresses are the device's, or nobody's
  }
}

bool IsBefore(const Block& a, const Block& b) {
  return a.domain != b.domain ? a.domain < b.domain : a.stack < b.stack;
}

// Merge sort of a list, by domain and stack.
Block* Sorted(Block* list) {
  if (list == nullptr || list->next == nullptr) return list;
  Block* middle = list;
  for (Block* end = list->next; end != nullptr && end->next != nullptr; end = end->next->next) {
    middle = middle->next;
  }
  Block* b = Sorted(middle->next);
  middle->next = nullptr;
  Block* a = Sorted(list);
  Block* sorted = nullptr;
  Block** link = &sorted;
  while (a != nullptr && b != nullptr) {
    Block*& less = IsBefore(*b, *a) ? b : a;
    *link = less;
    link = &less->next;
    less = less->next;
  }
  *link = a != nullptr ? a : b;
  return sorted;
}

void Push(Block* block, Block** list) {
  block->next = *list;
  *list = block;
}

Block* Pop(Block** list) {
  Block* const block = *list;
  *list = block->next;
  block->next = nullptr;
  return block;
}

}  // namespace

void Ledgers::Init(const OllamatraceCaptureApi* api) {
  api_ = api;
  blocks_.Init(api->memory);
}

Ledgers::Total& Ledgers::TotalOf(const Block& block) {
  const size_t device = block.device + size_t{1} < kDevices || block.device == kNoDevice
                            ? static_cast<uint32_t>(block.device + 1)
                            : kDevices - 1;
  return totals_[static_cast<size_t>(block.domain) % kDomains][device];
}

void Ledgers::Added(Block* block) {
  Total& total = TotalOf(*block);
  total.live_bytes += block->size;
  ++total.live_blocks;
  if (total.live_bytes > total.peak_bytes) total.peak_bytes = total.live_bytes;
  total.changed = true;
  block->born = ++events_;
  api_->alloc(static_cast<uint32_t>(block->domain), block->address, block->size, block->stack);
  if (!blocks_.Add(block)) blocks_.Delete(block);
}

void Ledgers::Removed(const Block& block) {
  Total& total = TotalOf(block);
  total.live_bytes -= block.size;
  --total.live_blocks;
  total.changed = true;
  ++events_;
  api_->free(static_cast<uint32_t>(block.domain), block.address);
}

void Ledgers::Allocated(const Allocation& allocation, uint64_t began) {
  if (Block* const known = blocks_.Find(allocation.domain, allocation.address)) {
    if (known->born > began && known->size == allocation.size) return;
    // Its free was not seen: the trace finds out by itself.
    blocks_.Take(known);
    Total& total = TotalOf(*known);
    total.live_bytes -= known->size;
    --total.live_blocks;
    blocks_.Delete(known);
  }
  Block* const block = blocks_.New();
  if (block == nullptr) return;
  block->domain = allocation.domain;
  block->address = allocation.address;
  block->size = allocation.size;
  block->owner = allocation.owner;
  block->device = allocation.device;
  block->context = allocation.context;
  block->stack = allocation.stack;
  const bool physical =
      allocation.domain == Domain::kVirtual || allocation.domain == Domain::kImported;
  block->handles = physical ? 1 : 0;
  if (allocation.domain == Domain::kMapped) {
    Block* const held = FindPhysical(allocation.owner);
    if (held != nullptr) ++held->mappings;
  }
  Added(block);
}

Block* Ledgers::FindPhysical(uint64_t handle) const {
  Block* const own = blocks_.Find(Domain::kVirtual, handle);
  return own != nullptr ? own : blocks_.Find(Domain::kImported, handle);
}

Ledgers::Call Ledgers::BeginFree(const Domain* domains, size_t count, uint64_t address) {
  if (address == 0) return 0;
  for (size_t i = 0; i < count; ++i) {
    Block* const block = blocks_.Find(domains[i], address);
    if (block == nullptr) continue;
    blocks_.Take(block);
    Removed(*block);
    return reinterpret_cast<Call>(block);
  }
  return 0;
}

Ledgers::Call Ledgers::BeginFreeOwned(Domain domain, uint64_t owner) {
  Block* list = nullptr;
  blocks_.TakeIf([=](const Block& block) { return block.domain == domain && block.owner == owner; },
                 &list);
  for (const Block* block = list; block != nullptr; block = block->next) Removed(*block);
  return reinterpret_cast<Call>(list);
}

void Ledgers::Drop(Block* physical, Block** list) {
  if (physical->handles != 0 || physical->mappings != 0) return;
  blocks_.Take(physical);
  Removed(*physical);
  Push(physical, list);
}

Ledgers::Call Ledgers::BeginRelease(uint64_t handle) {
  Block* const held = FindPhysical(handle);
  Block* const reference = held == nullptr || held->handles == 0 ? nullptr : blocks_.New();
  if (reference == nullptr) return 0;
  reference->reference_only = true;
  reference->domain = held->domain;
  reference->owner = handle;
  Block* list = nullptr;
  Push(reference, &list);
  --held->handles;
  Drop(held, &list);
  return reinterpret_cast<Call>(list);
}

Ledgers::Call Ledgers::BeginUnmap(uint64_t address, uint64_t size) {
  Block* found = nullptr;
  // One mapping after the other, as they were mapped; else whatever begins in the range.
  uint64_t at = address;
  while (at - address < size) {
    Block* const block = blocks_.Find(Domain::kMapped, at);
    if (block == nullptr || block->size == 0) break;
    blocks_.Take(block);
    Push(block, &found);
    at += block->size;
  }
  if (at - address < size) {
    blocks_.TakeIf(
        [=](const Block& block) {
          return block.domain == Domain::kMapped && block.address - address < size;
        },
        &found);
  }
  // What is put back first is what was taken last: the physical memory stands before its mapping.
  Block* list = nullptr;
  while (found != nullptr) {
    Block* const mapping = Pop(&found);
    Removed(*mapping);
    Push(mapping, &list);
    Block* const held = FindPhysical(mapping->owner);
    if (held == nullptr || held->mappings == 0) continue;
    --held->mappings;
    Drop(held, &list);
  }
  return reinterpret_cast<Call>(list);
}

void Ledgers::End(Call call, uint32_t status) {
  auto* list = reinterpret_cast<Block*>(call);
  while (list != nullptr) {
    Block* const block = Pop(&list);
    if (status == 0 || blocks_.Find(block->domain, block->address) != nullptr) {
      blocks_.Delete(block);
      continue;
    }
    if (block->reference_only || block->domain == Domain::kMapped) {
      Block* const held = FindPhysical(block->owner);
      if (held != nullptr) ++(block->reference_only ? held->handles : held->mappings);
    }
    if (block->reference_only) {
      blocks_.Delete(block);
      continue;
    }
    DefineFailure(GpuFailureKind::kFree, block->domain, block->size, status, block->stack);
    Added(block);
  }
}

bool Ledgers::Retained(uint64_t handle) {
  Block* const held = FindPhysical(handle);
  if (held == nullptr) return false;
  ++held->handles;
  return true;
}

void Ledgers::ContextEnded(uint32_t context, uint32_t device) {
  Block* list = nullptr;
  blocks_.TakeIf(
      [=](const Block& block) {
        if (block.domain == Domain::kPool) return device != kNoDevice && block.device == device;
        return context != 0 && block.context == context && EndsWithContext(block.domain);
      },
      &list);
  list = Sorted(list);
  while (list != nullptr) {
    GpuImplicitRecord record;
    record.time_ns = api_->now_ns();
    record.context = context;
    record.domain = list->domain;
    record.stack = StackId{list->stack};
    while (list != nullptr && list->domain == record.domain &&
           StackId{list->stack} == record.stack) {
      Block* const block = Pop(&list);
      Removed(*block);
      ++record.blocks;
      record.bytes += block->size;
      blocks_.Delete(block);
    }
    uint8_t encoded[kGpuRecordBytes];
    api_->define(encoded, EncodeGpuImplicit(record, encoded));
  }
}

void Ledgers::DefineFailure(GpuFailureKind kind, Domain domain, uint64_t size, uint32_t status,
                            uint32_t stack) {
  GpuFailureRecord record;
  record.time_ns = api_->now_ns();
  record.kind = kind;
  record.domain = domain;
  record.size = size;
  record.status = status;
  record.stack = StackId{stack};
  api_->define_stack(stack);
  uint8_t encoded[kGpuRecordBytes];
  api_->define(encoded, EncodeGpuFailure(record, encoded));
}

void Ledgers::Failed(Domain domain, uint64_t size, uint32_t status, uint32_t stack) {
  DefineFailure(GpuFailureKind::kAllocation, domain, size, status, stack);
}

void Ledgers::WriteLedgers() {
  for (size_t domain = 0; domain < kDomains; ++domain) {
    for (size_t device = 0; device < kDevices; ++device) {
      Total& total = totals_[domain][device];
      if (!total.changed) continue;
      total.changed = false;
      GpuLedgerRecord record;
      record.time_ns = api_->now_ns();
      record.device = static_cast<uint32_t>(device) - 1;
      record.domain = static_cast<Domain>(domain);
      record.live_bytes = total.live_bytes;
      record.live_blocks = total.live_blocks;
      record.peak_bytes = total.peak_bytes;
      uint8_t encoded[kGpuRecordBytes];
      api_->define(encoded, EncodeGpuLedger(record, encoded));
    }
  }
}

}  // namespace ollamatrace::cupti
