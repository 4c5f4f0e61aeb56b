#include "preload/hooks/record.h"

#include "preload/capture/unwinder_shapes.h"
#include "preload/hooks/real.h"
#include "preload/hooks/sampling.h"

namespace ollamatrace {
namespace {

// Every so many events of a thread, the drain's thread is thought of.
constexpr uint64_t kHintEvents = 64;
// A process that recorded fewer is left alone while it is young (see drain_due_ticks).
constexpr uint64_t kQuietEvents = 256;

inline ThreadState* State() {
  ThreadState* state = t_thread.state;
  return __builtin_expect(state != nullptr, 1) ? state : AttachThread();
}

inline bool HasRoom(ThreadState* state, uint64_t head) {
  if (__builtin_expect(head - state->released < state->capacity, 1)) return true;
  state->released = state->ring->released.load(std::memory_order_acquire);
  if (head - state->released < state->capacity) return true;
  if (!Relieve(state->ring, state->ring_index)) return false;
  state->released = state->ring->released.load(std::memory_order_acquire);
  return true;
}

inline __attribute__((always_inline)) void Emit(ThreadState* state, uint32_t shard,
                                                uint64_t address, uint64_t packed, uint32_t stack) {
  RingEntry* const ring = state->ring;
  // The ring's word alone says how far the thread is: a handler may have left an Emit at any point.
  const uint64_t head = ring->head.load(std::memory_order_relaxed);
  // Room is found before a place is taken: nobody waits for a thread that waits.
  if (__builtin_expect(!HasRoom(state, head), 0)) return;
  ring->pending_shard.store(shard + 1, std::memory_order_release);
  Event* const event = &state->events[head & (state->capacity - 1)];
  // The drain has the next lines in its CPU's cache: they are asked for before they are needed, as
  // taking a place waits for all stores before it.
  __builtin_prefetch(&state->events[(head + 24) & (state->capacity - 1)], 1);
  event->address = address;
  event->packed = packed;
  event->ticks = state->clock.Next(g_session.clock_turn.load(std::memory_order_relaxed), ReadTicks);
  event->stack = stack;
  event->seq = g_session.places[shard].fetch_add(1, std::memory_order_acq_rel);
  ring->head.store(head + 1, std::memory_order_release);
  ring->pending_shard.store(0, std::memory_order_release);
  if (__builtin_expect(((head + 1) & (kHintEvents - 1)) == 0, 0)) {
    state->released = ring->released.load(std::memory_order_acquire);
    state->drain_due =
        !DrainHint(head + 1 - state->released >= state->capacity / 2) && head + 1 >= kQuietEvents;
  }
}

// Where glibc holds no lock that pthread_create takes: it frees old stacks under one.
inline void StartDrainIfDue(ThreadState* state) {
  const uint64_t due = g_session.drain_due_ticks.load(std::memory_order_relaxed);
  if (__builtin_expect(state->drain_due || state->clock.last() >= due, 0)) {
    state->drain_due = false;
    StartDrainThread();
  }
}

// `resting`: a shape that the stack may have and that was not asked, or nullptr.
__attribute__((noinline)) uint32_t WalkStack(ThreadState* state, capture::ThreadUnwindCache* cache,
                                             const capture::CallerFrame& caller, int limit,
                                             capture::StackShape* resting) {
  const capture::UnwindResult walked =
      capture::Unwind(cache, caller, state->pcs, limit, resting == nullptr);
  bool complete;
  const StackId id =
      g_session.stacks.Intern(&state->memo, state->pcs, walked.depth, walked.unchanged, &complete);
  if (__builtin_expect(!complete, 0)) {
    CountLoss(LossKind::kStackTableFull);
  } else if (walked.fingerprint != 0) {
    g_session.stacks.Remember(walked.fingerprint, id);
  } else if (resting != nullptr && state->memo.known) {
    resting->EndRest();
  }
  return static_cast<uint32_t>(id);
}

inline __attribute__((always_inline)) uint32_t CaptureStack(ThreadState* state,
                                                            const capture::CallerFrame& caller) {
  auto* const cache = reinterpret_cast<capture::ThreadUnwindCache*>(state->unwind_cache);
  const int limit = g_session.settings.depth;
  capture::StackShape* resting = nullptr;
  for (int way = 0; way < capture::StackShapeTable::kWays; ++way) {
    capture::StackShape* const shape = capture::FindShape(cache, caller, limit, way);
    if (shape == nullptr) continue;
    if (shape->Rests()) {
      resting = shape;
      continue;
    }
    const uint64_t fingerprint = capture::Fingerprint(*shape, caller.frame_pointer);
    if (fingerprint != shape->last_fingerprint) {
      const StackId id = g_session.stacks.Find(fingerprint);
      if (id == StackId{}) {
        shape->CountFailure();
        continue;
      }
      shape->SetLast(fingerprint, static_cast<uint32_t>(id));
    }
    if (__builtin_expect(shape->failures != 0, 0)) shape->CountSuccess();
    if (way != 0) cache->shapes.MoveToFront(caller.pc, caller.sp, way);
    return shape->last_id;
  }
  return WalkStack(state, cache, caller, limit, resting);
}

inline uint64_t Address(const void* pointer) { return reinterpret_cast<uint64_t>(pointer); }

inline __attribute__((always_inline)) void RecordHeap(EventKind kind, const void* block,
                                                      size_t size, AllocFunction function,
                                                      uint32_t stack, ThreadState* state) {
  Emit(state, HeapShard(Address(block)), Address(block),
       PackEvent(kind, function, static_cast<uint8_t>(Domain::kHeap), size), stack);
}

inline void RecordMapping(EventKind kind, const void* address, size_t length,
                          AllocFunction function, uint8_t attributes, uint32_t stack,
                          ThreadState* state) {
  state->clock.Expire();  // they are few
  Emit(state, kMappingShard, Address(address), PackEvent(kind, function, attributes, length),
       stack);
}

// In mode sample.
bool IsToBeRecorded(const void* block, size_t size, const capture::CallerFrame& caller) {
  const bool young = IsYoung();
  const bool taken = TakeSample(block, size);
  // What walks need of the system, they get early on, drawn or not: a sandboxed thread gets nothing
  // later.
  if (young && !taken && t_thread.state != nullptr) CaptureStack(t_thread.state, caller);
  return taken;
}

void RecordGpu(EventKind kind, Domain domain, uint64_t address, uint64_t size, uint32_t stack) {
  const Recording recording;
  ThreadState* const state = State();
  if (state == nullptr) return;
  Emit(state, HeapShard(address), address,
       PackEvent(kind, AllocFunction::kGpu, static_cast<uint8_t>(domain), size), stack);
  StartDrainIfDue(state);
}

}  // namespace

bool EnterSlow(uintptr_t frame, Nested nested) {
  if (__builtin_expect(g_real.malloc == nullptr, 0) && t_thread.guard == kIdle) ResolveReal();
  if (t_thread.guard != kIdle) {
    if (!GuardIsAbandoned(frame)) {
      if (nested == Nested::kLost && t_thread.guard != kOwnWork && GateIsOpen()) {
        CountLoss(LossKind::kSignalInHook);
      }
      return false;
    }
    t_thread.guard = kIdle;
    // The walk may have been over, and its stack not yet been given ids.
    if (t_thread.state != nullptr) t_thread.state->memo.generation = 0;
  }
  if (!EnsureRecording()) {
    if (g_session.stopped.load(std::memory_order_relaxed)) CountLoss(LossKind::kDiskFull);
    return false;
  }
  t_thread.guard_frame = frame;
  t_thread.guard = kInReal;
  return true;
}

void RecordAlloc(const void* block, size_t size, AllocFunction function,
                 const capture::CallerFrame& caller) {
  const Recording recording;
  if (Sampling() && !IsToBeRecorded(block, size, caller)) return;
  ThreadState* const state = State();
  if (state == nullptr) return;
  RecordHeap(EventKind::kAlloc, block, size, function, CaptureStack(state, caller), state);
  StartDrainIfDue(state);
}

void RecordFree(const void* block) {
  const Recording recording;
  if (Sampling() && !DropSample(block)) return;
  ThreadState* const state = State();
  if (state == nullptr) return;
  RecordHeap(EventKind::kFree, block, 0, AllocFunction::kMalloc, 0, state);
}

bool RecordReallocBegin(const void* old_block) {
  const Recording recording;
  if (Sampling() && !DropSample(old_block)) return false;
  ThreadState* const state = State();
  if (state == nullptr) return false;
  RecordHeap(EventKind::kReallocFree, old_block, 0, AllocFunction::kRealloc, 0, state);
  return true;
}

void RecordReallocEnd(bool recorded, const void* old_block, const void* block, size_t size,
                      const capture::CallerFrame& caller) {
  const Recording recording;
  const bool taken = block != nullptr && (!Sampling() || TakeSample(block, size));
  if (!recorded && !taken) return;
  ThreadState* const state = State();
  if (state == nullptr) return;
  if (taken) {
    RecordHeap(recorded ? EventKind::kReallocDone : EventKind::kAlloc, block, size,
               AllocFunction::kRealloc, CaptureStack(state, caller), state);
    StartDrainIfDue(state);
  } else {
    // realloc(block, 0) frees; otherwise no memory was to be had and the block is as it was.
    const bool failed = block == nullptr && size != 0 && (!Sampling() || KeepSample(old_block));
    RecordHeap(failed ? EventKind::kReallocFailed : EventKind::kReallocFreed, old_block, 0,
               AllocFunction::kRealloc, 0, state);
  }
}

void RecordMap(const void* address, size_t length, AllocFunction function, uint8_t attributes,
               const capture::CallerFrame& caller) {
  const Recording recording;
  ThreadState* const state = State();
  if (state == nullptr) return;
  RecordMapping(EventKind::kMap, address, length, function, attributes, CaptureStack(state, caller),
                state);
  StartDrainIfDue(state);
}

void RecordUnmap(const void* address, size_t length) {
  const Recording recording;
  ThreadState* const state = State();
  if (state == nullptr) return;
  RecordMapping(EventKind::kUnmap, address, length, AllocFunction::kMmap, 0, 0, state);
}

void RecordUnmapFailed(const void* address, size_t length) {
  const Recording recording;
  ThreadState* const state = State();
  if (state == nullptr) return;
  RecordMapping(EventKind::kUnmapFailed, address, length, AllocFunction::kMmap, 0, 0, state);
}

uint32_t RecordPlacedStack(const capture::CallerFrame& caller, uint32_t place) {
  const Recording recording;
  ThreadState* const state = State();
  if (state == nullptr) return 0;
  auto* const cache = reinterpret_cast<capture::ThreadUnwindCache*>(state->unwind_cache);
  uintptr_t pcs[kMaxStackDepth];
  pcs[0] = place;
  const int own = place == 0 ? 0 : 1;
  int limit = g_session.settings.depth;
  if (limit > static_cast<int>(kMaxStackDepth) - own) limit = kMaxStackDepth - own;
  const capture::UnwindResult walked = capture::Unwind(cache, caller, pcs + own, limit);
  bool complete;
  const StackId id =
      g_session.stacks.Intern(&state->memo, pcs, walked.depth + own, walked.unchanged, &complete);
  if (!complete) CountLoss(LossKind::kStackTableFull);
  return static_cast<uint32_t>(id);
}

void RecordGpuAlloc(Domain domain, uint64_t address, uint64_t size, uint32_t stack) {
  RecordGpu(EventKind::kAlloc, domain, address, size, stack);
}

void RecordGpuFree(Domain domain, uint64_t address) {
  RecordGpu(EventKind::kFree, domain, address, 0, 0);
}

}  // namespace ollamatrace
