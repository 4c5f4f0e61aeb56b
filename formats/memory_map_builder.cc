#include "formats/memory_map_builder.h"

#include <cstring>

#include "formats/varint.h"

namespace ollamatrace {
namespace {

// Words of pagemap.
constexpr uint64_t kPresent = uint64_t{1} << 63;
constexpr uint64_t kSwapped = uint64_t{1} << 62;
constexpr uint64_t kExclusive = uint64_t{1} << 56;

// An area without runs: kind, flags, six numbers, the name with its length.
constexpr size_t kAreaBytes = 2 + 6 * kMaxVarintBytes + kMaxVarint32Bytes + kMaxAreaName;
// The rest, and what comes behind the areas: three numbers and three counts' worth of ends.
constexpr size_t kTailBytes = 8 * kMaxVarintBytes;
// Kept for what comes behind the areas.
constexpr size_t kReservedBytes = 8u << 10;

constexpr uint64_t kDesertPages = uint64_t{1} << 20;
constexpr uint64_t kDesertShare = 64;

struct Reader {
  const char* next;
  const char* end;

  bool Hex(uint64_t* out) {
    uint64_t value = 0;
    const char* const begin = next;
    for (; next != end; ++next) {
      unsigned digit;
      if (*next >= '0' && *next <= '9') {
        digit = static_cast<unsigned>(*next - '0');
      } else if (*next >= 'a' && *next <= 'f') {
        digit = static_cast<unsigned>(*next - 'a') + 10;
      } else {
        break;
      }
      value = value << 4 | digit;
    }
    *out = value;
    return next != begin;
  }
  bool Is(char c) {
    if (next == end || *next != c) return false;
    ++next;
    return true;
  }
  void Blanks() {
    while (next != end && (*next == ' ' || *next == '\t')) ++next;
  }
  void Word() {
    while (next != end && *next != ' ') ++next;
  }
};

bool StartsWith(const char* text, size_t size, const char* prefix) {
  const size_t length = strlen(prefix);
  return size >= length && memcmp(text, prefix, length) == 0;
}

AreaKind KindOf(const char* name, size_t size) {
  if (size == 0) return AreaKind::kAnonymous;
  if (StartsWith(name, size, "[anon")) return AreaKind::kNamed;
  if (StartsWith(name, size, "[heap]")) return AreaKind::kHeap;
  if (StartsWith(name, size, "[stack")) return AreaKind::kStack;
  return name[0] == '[' ? AreaKind::kOther : AreaKind::kFile;
}

// "7f00-7f10 rw-p 00000000 fe:00 1234   /path".
bool ParseHead(const char* text, size_t size, SmapsArea* area) {
  Reader in{text, text + size};
  uint64_t begin, end;
  if (!in.Hex(&begin) || !in.Is('-') || !in.Hex(&end) || !in.Is(' ')) return false;
  if (in.end - in.next < 4) return false;
  *area = SmapsArea();
  area->begin = begin;
  area->end = end;
  area->protection = static_cast<uint8_t>(
      (in.next[0] == 'r' ? 1 : 0) | (in.next[1] == 'w' ? 2 : 0) | (in.next[2] == 'x' ? 4 : 0));
  area->shared = in.next[3] == 's';
  for (int field = 0; field < 4; ++field) {
    in.Word();
    in.Blanks();
  }
  size_t length = static_cast<size_t>(in.end - in.next);
  area->kind = KindOf(in.next, length);
  if (length > kMaxAreaName) {
    in.next += length - kMaxAreaName;
    length = kMaxAreaName;
  }
  memcpy(area->name, in.next, length);
  area->name_bytes = length;
  return true;
}

}  // namespace

bool SmapsParser::Line(const char* text, size_t size, SmapsArea* done) {
  if (size == 0) return false;
  // A line of figures begins with a capital letter, a mapping with its address.
  if (text[0] < 'A' || text[0] > 'Z') {
    SmapsArea next;
    if (!ParseHead(text, size, &next)) return false;
    const bool had = open_;
    if (had) *done = area_;
    area_ = next;
    open_ = true;
    return had;
  }
  if (!open_) return false;
  struct Figure {
    const char* name;
    uint64_t SmapsArea::*to;
  };
  static constexpr Figure kFigures[] = {{"Rss:", &SmapsArea::rss},
                                        {"Anonymous:", &SmapsArea::anonymous},
                                        {"Swap:", &SmapsArea::swap},
                                        {"Shared_Clean:", &SmapsArea::shared_bytes},
                                        {"Shared_Dirty:", &SmapsArea::shared_bytes}};
  for (const Figure& figure : kFigures) {
    if (!StartsWith(text, size, figure.name)) continue;
    uint64_t kib = 0;
    for (size_t i = strlen(figure.name); i < size; ++i) {
      if (text[i] >= '0' && text[i] <= '9') kib = kib * 10 + static_cast<uint64_t>(text[i] - '0');
    }
    area_.*figure.to += kib * 1024;
    break;
  }
  return false;
}

bool SmapsParser::Last(SmapsArea* done) {
  if (!open_) return false;
  *done = area_;
  open_ = false;
  return true;
}

bool WantsPages(const SmapsArea& area, uint64_t page_bytes) {
  if (area.shared || area.kind == AreaKind::kFile || area.kind == AreaKind::kOther) return false;
  const uint64_t held = (area.rss + area.swap) / page_bytes;
  if (held == 0) return false;
  const uint64_t pages = (area.end - area.begin) / page_bytes;
  return pages <= kDesertPages || held >= pages / kDesertShare;
}

bool IsArenaHeap(const uint64_t words[4], uint64_t page_bytes) {
  return words[0] != 0 && words[0] % 16 == 0 && words[1] % kArenaHeapBytes == 0 &&
         words[2] >= page_bytes && words[2] <= words[3] && words[3] <= kArenaHeapBytes;
}

void MemoryMapBuilder::Put(uint64_t value) {
  size_ = static_cast<size_t>(PutVarint(out_ + size_, value) - out_);
}

void MemoryMapBuilder::Begin(uint8_t* out, size_t capacity, uint64_t page_bytes) {
  *this = MemoryMapBuilder();
  out_ = out;
  capacity_ = capacity;
  page_bytes_ = page_bytes;
}

void MemoryMapBuilder::AddArea(const SmapsArea& area) {
  in_area_ = false;
  // The vsyscall page lies above all addresses of user space, and belongs to nobody.
  if (area.end >> 62 != 0) return;
  if (!HasRoom(kAreaBytes + kTailBytes + kReservedBytes) || area.begin < last_end_) {
    rest_[0] += area.rss / page_bytes_;
    rest_[1] += area.anonymous / page_bytes_;
    rest_[2] += area.swap / page_bytes_;
    return;
  }
  in_area_ = true;
  pages_ = WantsPages(area, page_bytes_);
  retried_ = false;
  expected_ = (area.rss + area.swap) / page_bytes_;
  const bool named = area.name_bytes > 0 && area.kind != AreaKind::kHeap;
  const bool same =
      named && area.name_bytes == name_bytes_ && memcmp(area.name, name_, name_bytes_) == 0;
  out_[size_++] = static_cast<uint8_t>(area.kind);
  flags_at_ = size_;
  out_[size_++] = static_cast<uint8_t>(area.protection | (area.shared ? 8 : 0) | (same ? 32 : 0) |
                                       (named && !same ? 64 : 0));
  Put((area.begin - last_end_) / page_bytes_);
  Put((area.end - area.begin) / page_bytes_);
  Put(area.rss / page_bytes_);
  Put(area.anonymous / page_bytes_);
  Put(area.swap / page_bytes_);
  Put(area.shared_bytes / page_bytes_);
  if (named && !same) {
    Put(area.name_bytes);
    memcpy(out_ + size_, area.name, area.name_bytes);
    size_ += area.name_bytes;
    memcpy(name_, area.name, area.name_bytes);
    name_bytes_ = area.name_bytes;
  }
  last_end_ = area.end;
  runs_at_ = size_;
  ReopenArea();
  retried_ = false;
}

void MemoryMapBuilder::ReopenArea() {
  size_ = runs_at_;
  found_ = gap_ = run_ = 0;
  overflow_ = false;
  retried_ = true;
}

void MemoryMapBuilder::EndRun() {
  if (run_ == 0) return;
  if (!HasRoom(2 * kMaxVarintBytes + kTailBytes + kReservedBytes)) {
    overflow_ = true;
    return;
  }
  Put(run_);
  Put(gap_);
  gap_ = run_ = 0;
}

void MemoryMapBuilder::AddPages(const uint64_t* words, size_t count) {
  if (!in_area_ || !pages_ || overflow_) return;
  for (size_t i = 0; i < count && !overflow_; ++i) {
    const uint64_t word = words[i];
    bool held = (word & (kPresent | kSwapped)) != 0;
    // The page of zeros is everybody's. So is a page that a fork left shared: those are told apart
    // by how many there are.
    if (retried_ && (word & kPresent) != 0 && (word & kExclusive) == 0) held = false;
    if (held) {
      ++run_;
      ++found_;
    } else {
      EndRun();
      ++gap_;
    }
  }
}

bool MemoryMapBuilder::CloseArea() {
  if (!in_area_ || !pages_) return true;
  EndRun();
  if (!overflow_ && found_ > expected_ + expected_ / 64 && !retried_) return false;
  if (overflow_) {
    size_ = runs_at_;  // where they are is not known then
  } else {
    Put(0);
    out_[flags_at_] |= 16;
  }
  in_area_ = false;
  return true;
}

// Behind the areas each entry begins with a byte that says what it is.
void MemoryMapBuilder::AddThread(ThreadKind kind, uint64_t address) {
  if (!HasRoom(kTailBytes) || address == 0) return;
  if (!areas_ended_) Finish();
  out_[size_++] = static_cast<uint8_t>(kind);
  Put(address);
}

void MemoryMapBuilder::AddOwn(uint64_t begin, uint64_t length) {
  if (!HasRoom(kTailBytes)) return;
  if (!areas_ended_) Finish();
  out_[size_++] = 3;
  Put(begin);
  Put(length);
}

void MemoryMapBuilder::AddHeap(uint64_t address, uint64_t arena, uint64_t previous) {
  if (!HasRoom(kTailBytes)) return;
  if (!areas_ended_) Finish();
  out_[size_++] = 4;
  Put(address);
  Put(arena);
  Put(previous);
}

size_t MemoryMapBuilder::Finish() {
  if (!areas_ended_) {
    areas_ended_ = true;
    out_[size_++] = 0xff;
    for (const uint64_t pages : rest_) Put(pages);
  }
  return size_;
}

}  // namespace ollamatrace
