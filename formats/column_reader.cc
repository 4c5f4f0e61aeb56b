#include "formats/column_reader.h"

#include "formats/varint.h"

namespace ollamatrace {

void ColumnReader::Start(const uint8_t* columns, size_t size) {
  bad_ = true;
  time_ = 0;
  thread_ = 0;
  events_ = 0;
  nodes_ = 0;
  run_next_ = false;
  count_ = 0;
  record_bytes_ = 0;
  const uint8_t* next = columns;
  const uint8_t* const end = columns + size;
  if (next == end) return;
  time_shift_ = *next++;
  if (time_shift_ > kMaxTimeShift) return;
  uint64_t sizes[kColumnCount];
  for (uint64_t& column : sizes) {
    if (!GetVarint(&next, end, &column)) return;
  }
  for (uint32_t c = 0; c < kColumnCount; ++c) {
    if (sizes[c] > static_cast<size_t>(end - next)) return;
    in_[c] = {next, next + sizes[c]};
    next += sizes[c];
  }
  if (next != end) return;
  history_.Start();
  places_.Start();
  blocks_.Start();
  bad_ = !StartStretch();
}

ColumnReader::Got ColumnReader::Bad() {
  bad_ = true;
  return Got::kBad;
}

inline bool ColumnReader::Byte(Column column, uint8_t* value) {
  Bytes& in = In(column);
  if (in.next == in.end) return false;
  *value = *in.next++;
  return true;
}

inline bool ColumnReader::Number(Column column, uint64_t* value) {
  Bytes& in = In(column);
  if (in.next != in.end && *in.next < 0x80) {
    *value = *in.next++;
    return true;
  }
  return GetVarint(&in.next, in.end, value);
}

bool ColumnReader::Number32(Column column, uint32_t* value) {
  uint64_t number;
  if (!Number(column, &number) || number > 0xffffffff) return false;
  *value = static_cast<uint32_t>(number);
  return true;
}

bool ColumnReader::Delta32(Column column, uint32_t base, uint32_t* value) {
  uint64_t number;
  if (!Number(column, &number)) return false;
  number = base + UnZigZag(number);
  *value = static_cast<uint32_t>(number);
  return number <= 0xffffffff;
}

bool ColumnReader::StartStretch() { return Number(Column::kNodeCounts, &nodes_); }

ColumnReader::Got ColumnReader::Next() {
  if (bad_) return Got::kBad;
  if (nodes_ != 0) return Nodes();
  if (!run_next_) {
    const Got got = Events();
    if (got == Got::kBad) bad_ = true;
    if (count_ != 0) return Got::kEvents;  // what was before it counts
    if (bad_) return Got::kBad;
    if (got == Got::kEnd) {
      // Nothing may be left over.
      for (const Bytes& in : in_) {
        if (in.next != in.end) return Bad();
      }
      return Got::kEnd;
    }
  }
  run_next_ = false;
  return Run() ? Got::kRecords : Bad();
}

bool ColumnReader::Run() {
  uint64_t size;
  if (!Number(Column::kRecords, &size)) return false;
  Bytes& in = In(Column::kRecords);
  if (size > static_cast<size_t>(in.end - in.next)) return false;
  records_ = in.next;
  record_bytes_ = size;
  in.next += size;
  return StartStretch();
}

// ---- Nodes

ColumnReader::Got ColumnReader::Nodes() {
  for (count_ = 0; count_ < kBatchNodes && nodes_ != 0; ++count_, --nodes_) {
    uint8_t flags;
    if (!Byte(Column::kNodeFlags, &flags) || flags >= 64) return Bad();
    uint32_t id = places_.last_id() + 1;
    if ((flags & kNodeHasId) != 0 && !Delta32(Column::kNodeIds, places_.last_id(), &id)) {
      return Bad();
    }
    uint32_t parent = places_.last_id();
    if ((flags & kNodeHasParent) != 0) {
      uint64_t distance;
      if (!Number(Column::kNodeParents, &distance)) return Bad();
      const uint64_t value = id - UnZigZag(distance);
      if (value > 0xffffffff) return Bad();
      parent = static_cast<uint32_t>(value);
    }
    NodePlace place = {};
    uint32_t number = NodePlaces::kNone;
    if ((flags & kNodeNewPlace) != 0) {
      uint64_t delta;
      if ((flags & kNodeHasPlace) != 0 || !Number(Column::kNodeAddresses, &delta)) return Bad();
      place.address = places_.last_address() + UnZigZag(delta);
      place.module = places_.last_module();
      if ((flags & kNodeNewModule) != 0 && !Number32(Column::kNodeModules, &place.module)) {
        return Bad();
      }
      place.exact = (flags & kNodeExactPlace) != 0 ? 1 : 0;
      number = places_.AddPlace(place);
    } else {
      if ((flags & (kNodeNewModule | kNodeExactPlace)) != 0) return Bad();
      number = places_.Likely(parent);
      if ((flags & kNodeHasPlace) != 0 && !Number32(Column::kNodeAddresses, &number)) return Bad();
      if (number >= places_.places()) return Bad();
      place = places_.place(number);
    }
    places_.Add(id, parent, number);
    node_batch_[count_] = {StackId{id}, StackId{parent}, ModuleId{place.module}, place.address,
                           place.exact};
  }
  return Got::kNodes;
}

// ---- Events

inline bool ColumnReader::Moment(ColumnEvent* event) {
  uint64_t delta;
  if (!Number(Column::kTimes, &delta)) return false;
  time_ += UnZigZag(delta);
  event->time_ns = time_ << time_shift_;
  event->thread = thread_;
  return true;
}

// kRecords: the stretch ends with a run. kEnd: the chunk ends. kEvents: the batch is full.
ColumnReader::Got ColumnReader::Events() {
  count_ = 0;
  // An alloc may come with a kReplaced before it.
  while (count_ + 1 < kBatchEvents) {
    uint8_t byte;
    if (!Byte(Column::kKinds, &byte)) return Got::kEnd;
    const ColumnKind kind = static_cast<ColumnKind>(byte);
    ColumnEvent* const event = &event_batch_[count_];
    if (kind == ColumnKind::kRecords) {
      run_next_ = true;
      return Got::kRecords;
    }
    if (kind == ColumnKind::kThread) {
      if (!Number32(Column::kThreads, &thread_)) return Got::kBad;
      continue;
    }
    if (kind == ColumnKind::kReplaced) {
      uint64_t back;
      if (!Number(Column::kOtherFrees, &back) || back >= blocks_.blocks()) return Got::kBad;
      const uint32_t block = blocks_.blocks() - static_cast<uint32_t>(back);
      const ColumnBlock& replaced = blocks_.block(block);
      if (replaced.entry == 0) return Got::kBad;
      *event = {0,
                replaced.address,
                replaced.size,
                block,
                replaced.entry,
                0,
                ColumnEvent::Kind::kReplaced,
                false};
      blocks_.Remove(block);
      ++count_;
      continue;
    }
    if (events_ == kMaxColumnEvents) return Got::kBad;
    ++events_;
    if (!Event(kind, event)) return Got::kBad;
    ++count_;
  }
  return Got::kEvents;
}

inline bool ColumnReader::Event(ColumnKind kind, ColumnEvent* event) {
  uint32_t coded;
  switch (kind) {
    case ColumnKind::kLikely3:
      coded = history_.Likely(3);
      break;
    case ColumnKind::kLikely2:
      coded = history_.Likely(2);
      break;
    case ColumnKind::kLikely1:
      coded = history_.Likely(1);
      break;
    case ColumnKind::kOtherFree:
      coded = kOtherFreeSymbol;
      break;
    case ColumnKind::kNewEntry:
      coded = kNewEntrySymbol;
      break;
    case ColumnKind::kFree:
    case ColumnKind::kAlloc: {
      uint8_t low;
      uint64_t high;
      if (!Byte(Column::kEntryLow, &low) || !Number(Column::kEntryHigh, &high) ||
          high > kMaxColumnEvents >> 8) {
        return false;
      }
      const uint32_t entry = static_cast<uint32_t>(high) << 8 | low;
      if (entry == 0) return false;
      coded = kind == ColumnKind::kFree ? FreeSymbol(entry) : AllocSymbol(entry);
      break;
    }
    default:
      return false;
  }
  if (coded == kNewEntrySymbol) {
    const uint32_t last = blocks_.entries() == 0 ? 0 : blocks_.entry(blocks_.entries()).stack;
    uint32_t stack;
    uint8_t function;
    if (!Delta32(Column::kNewStacks, last, &stack) || !Byte(Column::kNewFunctions, &function)) {
      return false;
    }
    const uint32_t entry = blocks_.AddEntry(stack, function);
    history_.Add(coded, AllocSymbol(entry));
    return Moment(event) && Alloc(entry, event);
  }
  history_.Add(coded, coded);
  if (!Moment(event)) return false;
  if (coded == kOtherFreeSymbol) return OtherFree(event);
  const uint32_t entry = coded / 2;
  if (entry > blocks_.entries()) return false;  // SymbolHistory::kNever, too
  if (coded % 2 != 0) return Alloc(entry, event);
  uint8_t depth;
  if (!Byte(Column::kDepths, &depth) || depth >= kMaxColumnDepth) return false;
  uint32_t block = blocks_.entry(entry).newest;
  for (; depth != 0 && block != 0; --depth) block = blocks_.block(block).older;
  if (block == 0) return false;
  event->address = blocks_.block(block).address;
  event->size = blocks_.block(block).size;
  event->block = block;
  event->entry = entry;
  event->kind = ColumnEvent::Kind::kFree;
  event->fresh = false;
  blocks_.Free(block);
  return true;
}

inline bool ColumnReader::Alloc(uint32_t entry, ColumnEvent* event) {
  uint64_t size;
  uint8_t place_byte;
  if (!Number(Column::kSizes, &size) || size > kMaxColumnSize ||
      !Byte(Column::kPlaces, &place_byte)) {
    return false;
  }
  size = size == 0 ? blocks_.entry(entry).last_size : size - 1;
  const ColumnPlace place = static_cast<ColumnPlace>(place_byte);
  const FreedAddresses& freed = blocks_.freed();
  uint64_t address;
  bool fresh = false;
  switch (place) {
    case ColumnPlace::kNext:
      address = blocks_.next_address();
      fresh = true;
      break;
    case ColumnPlace::kUnknown:
      if (!freed.Has(0, 0)) return false;
      address = freed.At(0, 0);
      break;
    case ColumnPlace::kAgain:
      address = blocks_.entry(entry).last_address;
      break;
    case ColumnPlace::kFreed:
      address = blocks_.last_freed();
      break;
    case ColumnPlace::kElsewhere: {
      uint64_t number;
      uint8_t rest = 0;
      if (!Number(Column::kAddresses, &number) ||
          ((number & 1) != 0 && !Byte(Column::kAddresses, &rest)) || rest > 15) {
        return false;
      }
      address = blocks_.last_address() + (UnZigZag(number >> 1) << 4) + rest;
      fresh = true;
      break;
    }
    default: {
      const uint32_t rank = place == ColumnPlace::kFirst
                                ? 0
                                : 1u + place_byte - static_cast<uint32_t>(ColumnPlace::kSecond);
      const uint32_t size_class = SizeClass(size);
      if (rank >= kPlaceRanks || !freed.Has(size_class, rank)) return false;
      address = freed.At(size_class, rank);
    }
  }
  blocks_.Take(place, size);
  event->address = address;
  event->size = size;
  event->block = blocks_.Alloc(entry, address, size);
  event->entry = entry;
  event->kind = ColumnEvent::Kind::kAlloc;
  event->fresh = fresh;
  return true;
}

bool ColumnReader::OtherFree(ColumnEvent* event) {
  uint64_t number;
  if (!Number(Column::kOtherFrees, &number)) return false;
  event->kind = ColumnEvent::Kind::kFree;
  event->fresh = false;
  if ((number & 1) != 0) {
    const uint64_t back = number >> 1;
    if (back >= blocks_.blocks()) return false;
    const uint32_t block = blocks_.blocks() - static_cast<uint32_t>(back);
    const ColumnBlock& freed = blocks_.block(block);
    if (freed.entry == 0) return false;
    event->address = freed.address;
    event->size = freed.size;
    event->block = block;
    event->entry = freed.entry;
    blocks_.Free(block);
    return true;
  }
  uint8_t rest = 0;
  if ((number & 2) != 0 && (!Byte(Column::kOtherFrees, &rest) || rest > 15)) return false;
  event->address = blocks_.last_other() + (UnZigZag(number >> 2) << 4) + rest;
  event->size = 0;
  event->block = 0;
  event->entry = 0;
  blocks_.FreeOther(event->address);
  return true;
}

}  // namespace ollamatrace
