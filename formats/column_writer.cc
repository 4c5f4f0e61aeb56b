#include "formats/column_writer.h"

#include <cstring>
#include <initializer_list>

#include "formats/trace_format.h"
#include "formats/varint.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kFactor = 0x9E3779B97F4A7C15;

// Takes fields from the front of a record.
struct Fields {
  const uint8_t* next;
  const uint8_t* end;
  bool ok;

  uint64_t Number() {
    uint64_t value = 0;
    if (next != end && *next < 0x80) return *next++;
    ok = ok && GetVarint(&next, end, &value);
    return value;
  }
  uint32_t Number32() {
    const uint64_t value = Number();
    ok = ok && value <= 0xffffffff;
    return static_cast<uint32_t>(value);
  }
  uint8_t Byte() {
    if (next == end) {
      ok = false;
      return 0;
    }
    return *next++;
  }
  uint64_t Delta(uint64_t base) { return base + UnZigZag(Number()); }
  uint32_t Delta32(uint32_t base) {
    const uint64_t value = Delta(base);
    ok = ok && value <= 0xffffffff;
    return static_cast<uint32_t>(value);
  }
};

}  // namespace

void ColumnWriter::Start() {
  rows_ = {};
  run_state_ = {};
  run_bytes_ = 0;
  events_ = allocs_ = 0;
  time_ = 0;
  thread_ = 0;
  nodes_ = 0;
  stats_ = {};
  history_.Start();
  blocks_.Start();
  places_.Start();
  memset(entry_at_, 0, sizeof(entry_at_));
  memset(block_at_, 0, sizeof(block_at_));
  memset(place_at_, 0, sizeof(place_at_));
  memset(used_, 0, sizeof(used_));
}

void ColumnWriter::Number(Column column, uint64_t value) {
  const uint32_t c = static_cast<uint32_t>(column);
  uint8_t* const begin = columns_[c] + used_[c];
  used_[c] += static_cast<size_t>(PutVarint(begin, value) - begin);
}

size_t ColumnWriter::Write(const uint8_t* raw, size_t raw_bytes, uint8_t* out) {
  if (raw_bytes > kMaxRecordsBytes) return 0;
  Start();
  if (!Take(raw, raw_bytes)) return 0;
  uint8_t head[1 + kColumnCount * kMaxVarintBytes];
  uint8_t* p = head;
  *p++ = kColumnTimeShift;
  size_t all = 0;
  for (const size_t used : used_) {
    p = PutVarint(p, used);
    all += used;
  }
  const size_t head_bytes = static_cast<size_t>(p - head);
  if (head_bytes + all >= raw_bytes) return 0;
  memcpy(out, head, head_bytes);
  size_t size = ends_[0] = head_bytes;
  for (uint32_t c = 0; c < kColumnCount; ++c) {
    if (used_[c] != 0) memcpy(out + size, columns_[c], used_[c]);
    size += used_[c];
    ends_[c + 1] = size;
  }
  return size;
}

bool ColumnWriter::Take(const uint8_t* raw, size_t raw_bytes) {
  Fields in{raw, raw + raw_bytes, true};
  while (in.next != in.end) {
    // What may grow: a single record adds less than the room behind a column.
    for (const Column column : {Column::kAddresses, Column::kOtherFrees, Column::kTimes,
                                Column::kNodeAddresses, Column::kRecords}) {
      if (used_[static_cast<uint32_t>(column)] > kColumnBytes) return false;
    }
    const uint8_t* const record = in.next;
    const uint8_t tag = in.Byte();
    switch (static_cast<Tag>(tag)) {
      case Tag::kReset:
        rows_ = {};
        break;
      case Tag::kTimeThread:
        rows_.time_ns = in.Delta(rows_.time_ns);
        rows_.thread = in.Number32();
        if (!in.ok) return false;
        break;
      case Tag::kAlloc: {
        const uint8_t domain = in.Byte();
        const uint8_t function = in.Byte();
        rows_.address = in.Delta(rows_.address);
        const uint64_t size = in.Number();
        rows_.stack = in.Delta32(rows_.stack);
        if (!in.ok) return false;
        if (domain == static_cast<uint8_t>(Domain::kHeap)) {
          if (!TakeAlloc(function, size)) return false;
          break;
        }
        AllocRecord alloc;
        alloc.time_ns = rows_.time_ns;
        alloc.thread = ThreadId{rows_.thread};
        alloc.domain = static_cast<Domain>(domain);
        alloc.function = static_cast<AllocFunction>(function);
        alloc.address = rows_.address;
        alloc.size = size;
        alloc.stack = StackId{rows_.stack};
        if (run_bytes_ > kMaxRecordsBytes) return false;
        run_bytes_ += EncodeAlloc(&run_state_, alloc, run_ + run_bytes_);
        break;
      }
      case Tag::kFree: {
        const uint8_t domain = in.Byte();
        rows_.address = in.Delta(rows_.address);
        if (!in.ok) return false;
        if (domain == static_cast<uint8_t>(Domain::kHeap)) {
          if (!TakeFree()) return false;
          break;
        }
        if (run_bytes_ > kMaxRecordsBytes) return false;
        run_bytes_ += EncodeFree(
            &run_state_,
            {rows_.time_ns, ThreadId{rows_.thread}, static_cast<Domain>(domain), rows_.address},
            run_ + run_bytes_);
        break;
      }
      case Tag::kMap: {
        MapRecord map;
        map.time_ns = rows_.time_ns;
        map.thread = ThreadId{rows_.thread};
        map.function = static_cast<AllocFunction>(in.Byte());
        map.protection = in.Byte();
        map.kind = in.Byte();
        map.address = rows_.address = in.Delta(rows_.address);
        map.length = in.Number();
        rows_.stack = in.Delta32(rows_.stack);
        map.stack = StackId{rows_.stack};
        if (!in.ok || run_bytes_ > kMaxRecordsBytes) return false;
        run_bytes_ += EncodeMap(&run_state_, map, run_ + run_bytes_);
        break;
      }
      case Tag::kUnmap: {
        UnmapRecord unmap;
        unmap.time_ns = rows_.time_ns;
        unmap.thread = ThreadId{rows_.thread};
        unmap.address = rows_.address = in.Delta(rows_.address);
        unmap.length = in.Number();
        if (!in.ok || run_bytes_ > kMaxRecordsBytes) return false;
        run_bytes_ += EncodeUnmap(&run_state_, unmap, run_ + run_bytes_);
        break;
      }
      default: {
        if (tag < static_cast<uint8_t>(Tag::kLengthPrefixed)) return false;
        const uint64_t size = in.Number();
        if (!in.ok || size > static_cast<size_t>(in.end - in.next)) return false;
        const uint8_t* const payload = in.next;
        in.next += size;
        if (tag == static_cast<uint8_t>(Tag::kNode) && TakeNode(payload, size)) break;
        if (!TakeRecord(record, static_cast<size_t>(in.next - record))) return false;
      }
    }
  }
  EndRun();
  EndStretch();
  if (stats_.events != 0 && run_state_.stats.events != 0) {
    if (run_state_.stats.first_ns < stats_.first_ns) stats_.first_ns = run_state_.stats.first_ns;
    if (run_state_.stats.last_ns > stats_.last_ns) stats_.last_ns = run_state_.stats.last_ns;
    stats_.events += run_state_.stats.events;
  } else if (stats_.events == 0) {
    stats_ = run_state_.stats;
  }
  return true;
}

// ---- Runs of records

bool ColumnWriter::TakeRecord(const uint8_t* record, size_t size) {
  if (run_bytes_ + size > kMaxRecordsBytes) return false;
  memcpy(run_ + run_bytes_, record, size);
  run_bytes_ += size;
  return true;
}

// What comes after the run starts a stretch.
void ColumnWriter::EndRun() {
  if (run_bytes_ == 0) return;
  EndStretch();
  Kind(ColumnKind::kRecords);
  Number(Column::kRecords, run_bytes_);
  uint8_t* const out = columns_[static_cast<uint32_t>(Column::kRecords)];
  size_t* const used = &used_[static_cast<uint32_t>(Column::kRecords)];
  // The runs are made of records that fit one column; what is written before each is short.
  if (*used + run_bytes_ <= kColumnBytes) memcpy(out + *used, run_, run_bytes_);
  *used += run_bytes_;
  run_bytes_ = 0;
  const ChunkStats stats = run_state_.stats;
  run_state_ = {};
  run_state_.stats = stats;
}

void ColumnWriter::EndStretch() {
  Number(Column::kNodeCounts, nodes_);
  nodes_ = 0;
}

// ---- Nodes

bool ColumnWriter::TakeNode(const uint8_t* payload, size_t size) {
  Fields in{payload, payload + size, true};
  const uint32_t id = in.Number32();
  const uint32_t parent = in.Number32();
  NodePlace place = {};
  place.module = in.Number32();
  place.address = in.Number();
  place.exact = in.Byte();
  if (!in.ok || in.next != in.end || place.exact > 1) return false;
  EndRun();
  uint8_t flags = 0;
  if (id != places_.last_id() + 1) {
    flags |= kNodeHasId;
    Number(Column::kNodeIds, ZigZag(uint64_t{id} - places_.last_id()));
  }
  if (parent != places_.last_id()) {
    flags |= kNodeHasParent;
    Number(Column::kNodeParents, ZigZag(uint64_t{id} - parent));
  }
  const auto same = [&](uint32_t number) {
    const NodePlace& other = places_.place(number);
    return other.address == place.address && other.module == place.module &&
           other.exact == place.exact;
  };
  uint32_t number = places_.Likely(parent);
  if (number == NodePlaces::kNone || !same(number)) {
    constexpr uint32_t kPlaces = 2 * kMaxNodePlaces;
    uint32_t bucket = static_cast<uint32_t>((place.address * kFactor) >> 49);
    static_assert(kPlaces == 1u << 15);
    while (place_at_[bucket] != 0 && !same(place_at_[bucket] - 1)) bucket = (bucket + 1) % kPlaces;
    if (place_at_[bucket] != 0) {
      flags |= kNodeHasPlace;
      number = place_at_[bucket] - 1;
      Number(Column::kNodeAddresses, number);
    } else {
      flags |= kNodeNewPlace;
      Number(Column::kNodeAddresses, ZigZag(place.address - places_.last_address()));
      if (place.module != places_.last_module()) {
        flags |= kNodeNewModule;
        Number(Column::kNodeModules, place.module);
      }
      if (place.exact != 0) flags |= kNodeExactPlace;
      number = places_.AddPlace(place);
      if (number != NodePlaces::kNone) place_at_[bucket] = number + 1;
    }
  }
  places_.Add(id, parent, number);
  Byte(Column::kNodeFlags, flags);
  ++nodes_;
  return true;
}

// ---- Events

void ColumnWriter::Moment() {
  const uint64_t time = rows_.time_ns >> kColumnTimeShift;
  Number(Column::kTimes, ZigZag(time - time_));
  time_ = time;
  const uint64_t time_ns = time << kColumnTimeShift;
  if (events_ == 0 || time_ns < stats_.first_ns) stats_.first_ns = time_ns;
  if (events_ == 0 || time_ns > stats_.last_ns) stats_.last_ns = time_ns;
  ++events_;
  stats_.events = events_;
}

void ColumnWriter::Symbol(uint32_t coded, uint32_t symbol) {
  if (rows_.thread != thread_) {
    thread_ = rows_.thread;
    Kind(ColumnKind::kThread);
    Number(Column::kThreads, thread_);
  }
  if (coded == history_.Likely(3)) {
    Kind(ColumnKind::kLikely3);
  } else if (coded == history_.Likely(2)) {
    Kind(ColumnKind::kLikely2);
  } else if (coded == history_.Likely(1)) {
    Kind(ColumnKind::kLikely1);
  } else if (coded == kOtherFreeSymbol) {
    Kind(ColumnKind::kOtherFree);
  } else if (coded == kNewEntrySymbol) {
    Kind(ColumnKind::kNewEntry);
  } else {
    Kind(coded % 2 == 0 ? ColumnKind::kFree : ColumnKind::kAlloc);
    const uint32_t entry = coded / 2;
    Byte(Column::kEntryLow, static_cast<uint8_t>(entry));
    Number(Column::kEntryHigh, entry >> 8);
  }
  history_.Add(coded, symbol);
}

uint32_t ColumnWriter::FindEntry(uint32_t stack, uint8_t function, uint32_t* bucket) const {
  const uint64_t key = uint64_t{stack} << 8 | function;
  *bucket = static_cast<uint32_t>((key * kFactor) >> 48);
  static_assert(kBuckets == 1u << 16);
  while (true) {
    const uint32_t entry = entry_at_[*bucket];
    if (entry == 0) return 0;
    if (blocks_.entry(entry).stack == stack && blocks_.entry(entry).function == function) {
      return entry;
    }
    *bucket = (*bucket + 1) % kBuckets;
  }
}

uint32_t ColumnWriter::FindBlock(uint64_t address, uint32_t* bucket) const {
  *bucket = static_cast<uint32_t>((address * kFactor) >> 48);
  while (true) {
    const uint32_t block = block_at_[*bucket];
    if (block == 0 || blocks_.block(block).address == address) return block;
    *bucket = (*bucket + 1) % kBuckets;
  }
}

ColumnPlace ColumnWriter::PlaceOf(uint32_t entry, uint64_t address, uint64_t size,
                                  bool is_new) const {
  const FreedAddresses& freed = blocks_.freed();
  const uint32_t size_class = SizeClass(size);
  if (freed.Has(size_class, 0) && freed.At(size_class, 0) == address) return ColumnPlace::kFirst;
  if (address == blocks_.next_address()) return ColumnPlace::kNext;
  if (freed.Has(0, 0) && freed.At(0, 0) == address) return ColumnPlace::kUnknown;
  if (!is_new && address == blocks_.entry(entry).last_address) return ColumnPlace::kAgain;
  if (address == blocks_.last_freed()) return ColumnPlace::kFreed;
  for (uint32_t rank = 1; rank < kPlaceRanks && freed.Has(size_class, rank); ++rank) {
    if (freed.At(size_class, rank) == address) {
      return static_cast<ColumnPlace>(static_cast<uint32_t>(ColumnPlace::kSecond) + rank - 1);
    }
  }
  return ColumnPlace::kElsewhere;
}

bool ColumnWriter::TakeAlloc(uint8_t function, uint64_t size) {
  if (size >= kMaxColumnSize || allocs_ == kMaxAllocs) return false;
  ++allocs_;
  EndRun();
  const uint64_t address = rows_.address;
  uint32_t block_bucket;
  const uint32_t there = FindBlock(address, &block_bucket);
  if (there != 0 && blocks_.block(there).entry != 0) {
    // Its free was lost. Whoever reads it has to know that this very block is gone.
    Kind(ColumnKind::kReplaced);
    Number(Column::kOtherFrees, blocks_.blocks() - there);
    blocks_.Remove(there);
  }
  uint32_t entry_bucket;
  uint32_t entry = FindEntry(rows_.stack, function, &entry_bucket);
  const bool is_new = entry == 0;
  if (is_new) {
    const uint32_t last = blocks_.entries() == 0 ? 0 : blocks_.entry(blocks_.entries()).stack;
    entry = blocks_.AddEntry(rows_.stack, function);
    entry_at_[entry_bucket] = entry;
    Symbol(kNewEntrySymbol, AllocSymbol(entry));
    Number(Column::kNewStacks, ZigZag(uint64_t{rows_.stack} - last));
    Byte(Column::kNewFunctions, function);
  } else {
    Symbol(AllocSymbol(entry), AllocSymbol(entry));
  }
  Moment();
  if (!is_new && size == blocks_.entry(entry).last_size) {
    Byte(Column::kSizes, 0);
  } else {
    Number(Column::kSizes, size + 1);
  }
  const ColumnPlace place = PlaceOf(entry, address, size, is_new);
  Byte(Column::kPlaces, static_cast<uint8_t>(place));
  if (place == ColumnPlace::kElsewhere) {
    const uint64_t delta = address - blocks_.last_address();
    const uint64_t units = static_cast<uint64_t>(static_cast<int64_t>(delta) >> 4);
    const uint8_t rest = delta & 15;
    Number(Column::kAddresses, ZigZag(units) << 1 | (rest != 0 ? 1 : 0));
    if (rest != 0) Byte(Column::kAddresses, rest);
  }
  blocks_.Take(place, size);
  block_at_[block_bucket] = blocks_.Alloc(entry, address, size);
  return true;
}

bool ColumnWriter::TakeFree() {
  if (events_ == kMaxColumnEvents) return false;
  EndRun();
  const uint64_t address = rows_.address;
  uint32_t bucket;
  const uint32_t block = FindBlock(address, &bucket);
  if (block == 0 || blocks_.block(block).entry == 0) {
    Symbol(kOtherFreeSymbol, kOtherFreeSymbol);
    Moment();
    const uint64_t delta = address - blocks_.last_other();
    const uint64_t units = static_cast<uint64_t>(static_cast<int64_t>(delta) >> 4);
    const uint8_t rest = delta & 15;
    Number(Column::kOtherFrees, ZigZag(units) << 2 | (rest != 0 ? 2 : 0));
    if (rest != 0) Byte(Column::kOtherFrees, rest);
    blocks_.FreeOther(address);
    return true;
  }
  const uint32_t entry = blocks_.block(block).entry;
  uint32_t depth = 0;
  for (uint32_t at = blocks_.entry(entry).newest; at != block && depth < kMaxColumnDepth;
       at = blocks_.block(at).older) {
    ++depth;
  }
  if (depth < kMaxColumnDepth) {
    Symbol(FreeSymbol(entry), FreeSymbol(entry));
    Moment();
    Byte(Column::kDepths, static_cast<uint8_t>(depth));
  } else {
    Symbol(kOtherFreeSymbol, kOtherFreeSymbol);
    Moment();
    Number(Column::kOtherFrees, uint64_t{blocks_.blocks() - block} << 1 | 1);
  }
  blocks_.Free(block);
  return true;
}

}  // namespace ollamatrace
