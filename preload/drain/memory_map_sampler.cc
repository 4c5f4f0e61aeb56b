#include "preload/drain/memory_map_sampler.h"

#include <cstring>

#include "formats/trace_format.h"
#include "preload/base/clock.h"
#include "preload/base/own_memory.h"
#include "preload/base/sys.h"
#include "preload/base/text.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kCostShare = 100;
constexpr uint64_t kStepShare = 1000;
constexpr uint64_t kShortestNs = 10 * kSecondNs;
constexpr uint64_t kLongestNs = 60 * kSecondNs;
constexpr uint64_t kAgeShare = 16;  // every 60 s at an age of 16 min
// A change in less than this is none.
constexpr uint64_t kLeastHeldBytes = 4u << 20;
constexpr uint64_t kLeastPauseNs = kSecondNs;
constexpr uint64_t kStepNs = 500'000;

bool MayBeArenaHeap(const SmapsArea& area) {
  return area.kind == AreaKind::kAnonymous && !area.shared && (area.protection & 3) == 3 &&
         area.rss + area.swap != 0;
}

void LookAtHeaps(MemoryMapContext* context) {
  const int fd = OpenProcFile(&context->memory, context->proc, "mem");
  if (fd < 0) return;
  for (uint32_t i = 0; i < context->heap_count; ++i) {
    uint64_t words[4];
    // Not by a load: the heap may be gone by now.
    const long size = sys::Pread(fd, words, sizeof words, context->buffers->heaps[i]);
    if (size != sizeof words || !IsArenaHeap(words, context->page_bytes)) continue;
    context->builder.AddHeap(context->buffers->heaps[i], words[0], words[1]);
  }
}

// The list of robust futexes lies in the thread's control block, and that at the top of its stack.
void LookAtThreads(MemoryMapContext* context) {
  ProcFile folder;
  const int fd = OpenProcFile(&folder, context->proc, "task", O_DIRECTORY);
  if (fd < 0) return;
  const int process = sys::Getpid();
  const int self = sys::Gettid();
  while (true) {
    const long size = sys::GetDents(fd, context->buffers->text, sizeof context->buffers->text);
    if (sys::Failed(size) || size == 0) break;
    for (long place = 0; place < size;) {
      uint16_t length;
      memcpy(&length, context->buffers->text + place + 16, sizeof length);
      const char* const name = context->buffers->text + place + 19;
      place += length;
      uint64_t tid;
      if (!ParseNumber(name, TextLength(name), &tid)) continue;
      void* list = nullptr;
      size_t list_size = 0;
      if (sys::Failed(sys::Call(__NR_get_robust_list, static_cast<long>(tid), sys::Arg(&list),
                                sys::Arg(&list_size)))) {
        continue;
      }
      ThreadKind kind = ThreadKind::kOther;
      if (tid == static_cast<uint64_t>(self)) kind = ThreadKind::kTracer;
      if (tid == static_cast<uint64_t>(process)) kind = ThreadKind::kFirst;
      context->builder.AddThread(kind, reinterpret_cast<uint64_t>(list));
    }
  }
  CloseProcFile(&folder);
}

void LookAtOwn(MemoryMapContext* context) {
  const uint32_t used = g_own_mappings.used.load(std::memory_order_relaxed);
  context->own_seen = used;
  for (uint32_t i = 0; i < used && i < kMaxOwnMappings; ++i) {
    const uint64_t begin = g_own_mappings.list[i].begin.load(std::memory_order_acquire);
    if (begin != 0) context->builder.AddOwn(begin, g_own_mappings.list[i].length);
  }
}

// An area that smaps has told.
void TakeArea(MemoryMapContext* context) {
  const SmapsArea& area = context->area;
  context->builder.AddArea(area);
  if (MayBeArenaHeap(area)) {
    // Neighbours may have become one mapping.
    uint64_t heap = (area.begin + kArenaHeapBytes - 1) & ~(kArenaHeapBytes - 1);
    for (; heap < area.end && context->heap_count < kMaxHeapsLookedAt; heap += kArenaHeapBytes) {
      context->buffers->heaps[context->heap_count++] = heap;
    }
  }
  context->page_at = WantsPages(area, context->page_bytes) ? area.begin : 0;
  if (context->page_at == 0) context->builder.CloseArea();
}

// False: pagemap cannot be read.
bool ReadPages(MemoryMapContext* context) {
  const int fd = OpenProcFile(&context->pagemap, context->proc, "pagemap");
  const SmapsArea& area = context->area;
  const uint64_t pages = (area.end - context->page_at) / context->page_bytes;
  const uint64_t most = sizeof context->buffers->words / 8;
  const uint64_t count = pages < most ? pages : most;
  const long size = fd < 0 ? -1
                           : sys::Pread(fd, context->buffers->words, count * 8,
                                        context->page_at / context->page_bytes * 8);
  if (sys::Failed(size) || size % 8 != 0) return false;
  // What is missing has been unmapped meanwhile.
  const uint64_t got = static_cast<uint64_t>(size) / 8;
  context->builder.AddPages(context->buffers->words, got);
  context->page_at += got * context->page_bytes;
  if (got != 0 && context->page_at < area.end) return true;
  context->page_at = 0;
  if (!context->builder.CloseArea()) {
    context->builder.ReopenArea();
    context->page_at = area.begin;
  }
  return true;
}

// The next mapping, or the end. False: smaps cannot be read.
bool ReadText(MemoryMapContext* context) {
  size_t at = 0;
  bool found = false;
  while (!found) {
    const char* const begin = context->buffers->text + at;
    const void* const newline = memchr(begin, '\n', context->text_size - at);
    if (newline != nullptr) {
      const size_t size = static_cast<size_t>(static_cast<const char*>(newline) - begin);
      at += size + 1;
      found = context->parser.Line(begin, size, &context->area);
      continue;
    }
    memmove(context->buffers->text, begin, context->text_size - at);
    context->text_size -= at;
    at = 0;
    if (context->text_size == sizeof context->buffers->text) return false;  // no line is that long
    const int fd = IsOpen(context->smaps) ? context->smaps.fd : -1;
    const long size = sys::Read(fd, context->buffers->text + context->text_size,
                                sizeof context->buffers->text - context->text_size);
    if (sys::Failed(size)) return false;
    if (size == 0) {
      context->smaps_ended = true;
      found = context->parser.Last(&context->area);
      break;
    }
    context->text_size += static_cast<size_t>(size);
  }
  memmove(context->buffers->text, context->buffers->text + at, context->text_size - at);
  context->text_size -= at;
  if (found) TakeArea(context);
  return true;
}

void End(MemoryMapContext* context) {
  const uint64_t now_ns = MonotonicNs();
  context->active = false;
  const uint64_t pause_for_steps = context->longest_ns * kStepShare;
  const uint64_t pause_for_cost = context->cost_ns * kCostShare;
  context->not_before_ns =
      now_ns + (pause_for_steps > pause_for_cost ? pause_for_steps : pause_for_cost);
  if (context->not_before_ns < now_ns + kLeastPauseNs) {
    context->not_before_ns = now_ns + kLeastPauseNs;
  }
  uint64_t pause = (now_ns - context->origin_ns) / kAgeShare;
  if (pause < kShortestNs) pause = kShortestNs;
  if (pause > kLongestNs) pause = kLongestNs;
  context->due_ns = now_ns + pause;
  CloseProcFile(&context->smaps);
  CloseProcFile(&context->pagemap);
  CloseProcFile(&context->memory);
}

MapStep Step(MemoryMapContext* context, uint64_t until_cpu_ns) {
  do {
    if (context->page_at != 0) {
      if (!ReadPages(context)) return MapStep::kFailed;
    } else if (!context->smaps_ended) {
      if (!ReadText(context)) return MapStep::kFailed;
    } else {
      LookAtOwn(context);
      LookAtHeaps(context);
      LookAtThreads(context);
      context->body_size = context->builder.Finish();
      return MapStep::kDone;
    }
  } while (ThreadCpuNs() < until_cpu_ns);
  return MapStep::kMore;
}

}  // namespace

bool MemoryMapIsDue(MemoryMapContext* context, uint64_t now_ns, uint64_t held_bytes) {
  if (context->active) return false;
  if (context->origin_ns == 0) {
    context->origin_ns = context->due_ns = now_ns;
  }
  const bool known = held_bytes != kUnknownGauge;
  bool changed = false;
  if (known && context->has_held) {
    const uint64_t before = context->held_bytes;
    const uint64_t least = (before < kLeastHeldBytes ? kLeastHeldBytes : before) / 10;
    changed = held_bytes > before + least || held_bytes + least < before;
  }
  // Memory of ours that no look has told yet.
  changed = changed || g_own_mappings.used.load(std::memory_order_relaxed) != context->own_seen;
  if (now_ns < context->not_before_ns || (now_ns < context->due_ns && !changed)) return false;
  context->held_bytes = held_bytes;
  context->has_held = known;
  return true;
}

void BeginMemoryMap(MemoryMapContext* context, uint64_t now_ns) {
  if (context->active) return;
  context->active = true;
  context->begin_ns = now_ns;
  context->cost_ns = context->longest_ns = 0;
  context->parser = SmapsParser();
  context->builder.Begin(context->buffers->body, sizeof context->buffers->body,
                         context->page_bytes);
  context->page_at = 0;
  context->heap_count = 0;
  context->smaps_ended = false;
  context->text_size = 0;
  if (context->origin_ns == 0) context->origin_ns = now_ns;
  OpenProcFile(&context->smaps, context->proc, "smaps");
}

MapStep StepMemoryMap(MemoryMapContext* context) {
  if (!context->active) return MapStep::kIdle;
  const uint64_t before = ThreadCpuNs();
  const MapStep step = Step(context, before + kStepNs);
  const uint64_t took = ThreadCpuNs() - before;
  context->cost_ns += took;
  if (took > context->longest_ns) context->longest_ns = took;
  if (step != MapStep::kMore) End(context);
  return step;
}

void CloseMemoryMap(MemoryMapContext* context) {
  context->active = false;
  CloseProcFile(&context->smaps);
  CloseProcFile(&context->pagemap);
  CloseProcFile(&context->memory);
}

}  // namespace ollamatrace
