#include "preload/drain/mappings.h"

namespace ollamatrace {
namespace {

constexpr uint32_t kEntryWords = sizeof(MappingEntry) / sizeof(uint64_t);
constexpr uint32_t kPendingWords = sizeof(PendingUnmap) / sizeof(uint64_t);
// Of one step here: an entry of each table, a slot, a ring.
constexpr uint32_t kStepUndoWords = 32;

static_assert(kYoungMappings <= kMaxYoungMappings);
static_assert(kMaxPendingUnmaps < 255);  // RingView::pending_unmap

bool Overlap(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end) {
  return a < b_end && b < a_end;
}

Domain DomainOf(AllocFunction function) {
  return function == AllocFunction::kBrk ? Domain::kBreak : Domain::kMapping;
}

// The first young mapping from `index` on that overlaps the range; kYoungMappings: none.
uint32_t NextOverlapped(const Drain& drain, uint32_t index, uint64_t begin, uint64_t end) {
  for (; index < drain.mapping_used; ++index) {
    if (drain.mapping_end[index] != 0 &&
        Overlap(drain.mapping_begin[index], drain.mapping_end[index], begin, end)) {
      return index;
    }
  }
  return kYoungMappings;
}

void Forget(Drain* drain, uint32_t index) {
  MappingEntry* const entry = drain->journal->mapping(index);
  drain->undo.Push(entry, kEntryWords);
  StoreWord(&entry->length, uint64_t{0});
  drain->mapping_end[index] = 0;
  --drain->mapping_count;
}

void Hold(Drain* drain, uint32_t index, const MapRecord& map) {
  MappingEntry* const entry = drain->journal->mapping(index);
  drain->undo.Push(entry, kEntryWords);
  entry->address = map.address;
  entry->time_ns = map.time_ns;
  entry->stack = static_cast<uint32_t>(map.stack);
  entry->thread = static_cast<uint32_t>(map.thread);
  entry->function = static_cast<uint32_t>(map.function);
  entry->protection = map.protection;
  entry->kind = map.kind;
  StoreWord(&entry->length, map.length);
  drain->mapping_begin[index] = map.address;
  drain->mapping_end[index] = map.address + map.length;
  if (index >= drain->mapping_used) drain->mapping_used = index + 1;
  ++drain->mapping_count;
}

MapRecord RecordOf(const MappingEntry& entry) {
  MapRecord map;
  map.time_ns = entry.time_ns;
  map.thread = ThreadId{entry.thread};
  map.function = static_cast<AllocFunction>(entry.function);
  map.stack = StackId{entry.stack};
  map.address = entry.address;
  map.length = entry.length;
  map.protection = static_cast<uint8_t>(entry.protection);
  map.kind = static_cast<uint8_t>(entry.kind);
  return map;
}

// A young mapping was unmapped whole.
bool FoldMapping(Drain* drain, uint32_t index, uint64_t time_ns) {
  const MappingEntry& entry = *drain->journal->mapping(index);
  CounterSlot* const slot =
      drain->counters.Change(entry.stack, DomainOf(static_cast<AllocFunction>(entry.function)));
  if (slot == nullptr) return false;
  AddPair(slot, entry.length, entry.length, entry.time_ns, time_ns);
  Forget(drain, index);
  return true;
}

// An unmap that went through.
bool Unmap(Drain* drain, const UnmapRecord& unmap) {
  const uint64_t end = unmap.address + unmap.length;
  uint64_t folded = 0;
  for (uint32_t i = NextOverlapped(*drain, 0, unmap.address, end); i != kYoungMappings;
       i = NextOverlapped(*drain, i + 1, unmap.address, end)) {
    if (!HasUndoRoom(*drain, kStepUndoWords)) return false;
    const uint64_t length = drain->mapping_end[i] - drain->mapping_begin[i];
    const bool whole = drain->mapping_begin[i] >= unmap.address && drain->mapping_end[i] <= end;
    if (whole && FoldMapping(drain, i, unmap.time_ns)) {
      folded += length;
    } else if (!WriteOutMapping(drain, i)) {
      return false;
    }
  }
  // What was folded explains all of it, or else older mappings lie in the range, too.
  return folded == unmap.length || drain->staging.Unmap(unmap);
}

void ForgetPending(Drain* drain, uint32_t index) {
  PendingUnmap* const pending = drain->journal->pending_unmap(index);
  drain->rings[pending->ring].pending_unmap = 0;
  drain->undo.Push(pending, kPendingWords);
  StoreWord(&pending->length, uint64_t{0});
  --drain->pending_count;
}

bool SettlePending(Drain* drain, uint32_t index) {
  const PendingUnmap& pending = *drain->journal->pending_unmap(index);
  if (!Unmap(drain, {pending.time_ns, ThreadId{pending.thread}, pending.address, pending.length})) {
    return false;
  }
  ForgetPending(drain, index);
  return true;
}

}  // namespace

bool WriteOutMapping(Drain* drain, uint32_t index) {
  const MapRecord map = RecordOf(*drain->journal->mapping(index));
  if (!drain->staging.Map(map)) return false;
  CounterSlot* const slot =
      drain->counters.Change(static_cast<uint32_t>(map.stack), DomainOf(map.function));
  if (slot != nullptr) DropLive(slot, map.length);
  Forget(drain, index);
  return true;
}

bool OnMap(Drain* drain, const Event& event, uint32_t thread, uint64_t time_ns) {
  const uint8_t attributes = EventAttributes(event.packed);
  MapRecord map;
  map.time_ns = time_ns;
  map.thread = ThreadId{thread};
  map.function = EventFunction(event.packed);
  map.stack = StackId{event.stack};
  map.address = event.address;
  map.length = EventSize(event.packed);
  map.protection = attributes & 7;
  map.kind = attributes >> 4;
  if (map.length == 0) return true;
  const uint64_t end = map.address + map.length;
  // Nobody is given a range that is still mapped. (A fixed mapping may be, and then replaces it;
  // an unmap of it that is still to come is the program's own race.)
  for (uint32_t i = 0; drain->pending_count != 0 && i < kMaxPendingUnmaps; ++i) {
    const PendingUnmap& pending = *drain->journal->pending_unmap(i);
    if (pending.length == 0 ||
        !Overlap(pending.address, pending.address + pending.length, map.address, end)) {
      continue;
    }
    if (!HasUndoRoom(*drain, kStepUndoWords) || !SettlePending(drain, i)) return false;
  }
  if (drain->mode == Mode::kFull) return drain->staging.Map(map);
  // What is written tells the reader that it replaced something; what is folded does not.
  bool write = (attributes & kMapFixed) != 0;
  for (uint32_t i = NextOverlapped(*drain, 0, map.address, end); i != kYoungMappings;
       i = NextOverlapped(*drain, i + 1, map.address, end)) {
    if (!HasUndoRoom(*drain, kStepUndoWords) || !WriteOutMapping(drain, i)) return false;
    write = true;
  }
  if (write) return drain->staging.Map(map);

  uint32_t index = 0;
  while (index < drain->mapping_used && drain->mapping_end[index] != 0) ++index;
  if (index == kYoungMappings) {
    index = 0;
    for (uint32_t i = 1; i < kYoungMappings; ++i) {
      if (drain->journal->mapping(i)->time_ns < drain->journal->mapping(index)->time_ns) index = i;
    }
    if (!HasUndoRoom(*drain, kStepUndoWords) || !WriteOutMapping(drain, index)) return false;
  }
  CounterSlot* const slot = drain->counters.Change(event.stack, DomainOf(map.function));
  if (slot == nullptr ||
      !ReserveJournal(drain->journal, kMappingsOffset + index * sizeof(MappingEntry),
                      sizeof(MappingEntry))) {
    return drain->staging.Map(map);
  }
  AddLive(slot, map.length);
  Hold(drain, index, map);
  return true;
}

bool OnUnmap(Drain* drain, uint32_t ring, const Event& event, uint32_t thread, uint64_t time_ns) {
  const UnmapRecord unmap = {time_ns, ThreadId{thread}, event.address, EventSize(event.packed)};
  if (unmap.length == 0) return true;
  if (!ReserveJournal(drain->journal, kPendingOffset, kMaxPendingUnmaps * sizeof(PendingUnmap))) {
    return Unmap(drain, unmap);
  }
  uint32_t index = 0;
  uint32_t oldest = 0;
  for (; index < kMaxPendingUnmaps; ++index) {
    const PendingUnmap& pending = *drain->journal->pending_unmap(index);
    if (pending.length == 0) break;
    if (pending.time_ns < drain->journal->pending_unmap(oldest)->time_ns) oldest = index;
  }
  if (index == kMaxPendingUnmaps) {
    // More threads inside munmap than there is room for: most calls succeed.
    index = oldest;
    if (!HasUndoRoom(*drain, kStepUndoWords) || !SettlePending(drain, index)) return false;
  }
  PendingUnmap* const pending = drain->journal->pending_unmap(index);
  drain->undo.Push(pending, kPendingWords);
  pending->address = unmap.address;
  pending->time_ns = time_ns;
  pending->thread = thread;
  pending->ring = ring;
  StoreWord(&pending->length, unmap.length);
  drain->rings[ring].pending_unmap = static_cast<uint8_t>(index + 1);
  ++drain->pending_count;
  return true;
}

bool SettleUnmap(Drain* drain, uint32_t ring, EventKind next) {
  const uint8_t pending = drain->rings[ring].pending_unmap;
  if (pending == 0) return true;
  if (next != EventKind::kUnmapFailed) return SettlePending(drain, pending - 1);
  ForgetPending(drain, pending - 1);
  return true;
}

}  // namespace ollamatrace
