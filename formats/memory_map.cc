#include "formats/memory_map.h"

#include <algorithm>

#include "formats/encode.h"
#include "formats/varint.h"

namespace ollamatrace {
namespace {

constexpr uint8_t kEndOfAreas = 0xff;
// Addresses of user space; sums of a few stay below 2^64.
constexpr uint64_t kTop = uint64_t{1} << 62;

class Body {
 public:
  explicit Body(absl::string_view bytes)
      : next_(reinterpret_cast<const uint8_t*>(bytes.data())), end_(next_ + bytes.size()) {}

  bool ok() const { return ok_; }
  bool done() const { return !ok_ || next_ == end_; }
  uint8_t Byte() {
    if (next_ == end_) return Bad();
    return *next_++;
  }
  uint64_t Number() {
    uint64_t value = 0;
    if (!ok_ || !GetVarint(&next_, end_, &value)) return Bad();
    return value;
  }
  // Pages, as bytes.
  uint64_t Pages(uint64_t page_bytes) {
    const uint64_t pages = Number();
    if (pages > kTop / page_bytes) return Bad();
    return pages * page_bytes;
  }
  absl::string_view Text() {
    const uint64_t size = Number();
    if (!ok_ || size > static_cast<uint64_t>(end_ - next_)) {
      Bad();
      return {};
    }
    const absl::string_view text(reinterpret_cast<const char*>(next_), size);
    next_ += size;
    return text;
  }
  uint8_t Bad() {
    ok_ = false;
    return 0;
  }

 private:
  const uint8_t* next_;
  const uint8_t* const end_;
  bool ok_ = true;
};

void ReadRuns(Body& body, uint64_t page_bytes, MemoryArea& area) {
  uint64_t at = area.begin;
  while (true) {
    const uint64_t length = body.Pages(page_bytes);
    if (!body.ok() || length == 0) return;
    const uint64_t gap = body.Pages(page_bytes);
    if (gap > area.end - at || length > area.end - at - gap) {
      body.Bad();
      return;
    }
    area.runs.push_back({at + gap, at + gap + length});
    at += gap + length;
  }
}

}  // namespace

absl::StatusOr<MemoryMap> DecodeMemoryMap(uint64_t time_ns, uint64_t page_bytes,
                                          absl::string_view bytes) {
  if (page_bytes < 512 || page_bytes > (1u << 20)) {
    return absl::DataLossError("no memory map: an impossible size of pages");
  }
  if (bytes.size() > kMaxDecodedMapBytes) {
    return absl::DataLossError("no memory map: it is longer than any");
  }
  MemoryMap map;
  map.time_ns = time_ns;
  Body body(bytes);
  uint64_t end = 0;
  std::string name;
  while (true) {
    const uint8_t kind = body.Byte();
    if (!body.ok() || kind == kEndOfAreas) break;
    MemoryArea area;
    area.kind = static_cast<AreaKind>(kind);
    const uint8_t flags = body.Byte();
    area.protection = flags & 7;
    area.shared = (flags & 8) != 0;
    area.runs_known = (flags & 16) != 0;
    const uint64_t gap = body.Pages(page_bytes);
    const uint64_t length = body.Pages(page_bytes);
    if (gap > kTop - end || length > kTop - end - gap) {
      body.Bad();
      break;
    }
    area.begin = end + gap;
    end = area.end = area.begin + length;
    for (uint64_t* bytes_of : {&area.rss, &area.anonymous, &area.swap, &area.shared_bytes}) {
      *bytes_of = body.Pages(page_bytes);
    }
    if ((flags & 64) != 0) name = std::string(body.Text());
    if ((flags & (32 | 64)) != 0) area.name = name;
    if (area.runs_known) ReadRuns(body, page_bytes, area);
    if (body.ok()) map.areas.push_back(std::move(area));
  }
  map.rest_rss = body.Pages(page_bytes);
  map.rest_anonymous = body.Pages(page_bytes);
  map.rest_swap = body.Pages(page_bytes);
  while (!body.done()) {
    switch (body.Byte()) {
      case 1:
        map.threads.push_back(body.Number());
        break;
      case 2:
        map.own_threads.push_back(body.Number());
        break;
      case 3: {
        const uint64_t begin = body.Number();
        const uint64_t length = body.Number();
        if (begin < kTop && length < kTop) map.own.push_back({begin, begin + length});
        break;
      }
      case 5:
        map.first_thread = body.Number();
        break;
      case 4: {
        const uint64_t address = body.Number();
        const uint64_t arena = body.Number();
        map.heaps.push_back({address, arena, body.Number()});
        break;
      }
      default:
        body.Bad();
    }
  }
  if (!body.ok()) return absl::DataLossError("a memory map that does not follow its layout");
  std::sort(map.own.begin(), map.own.end(),
            [](const PageRun& a, const PageRun& b) { return a.begin < b.begin; });
  return map;
}

}  // namespace ollamatrace
