// Decodes the records of a chunk, some at a time. Runs inside the traced process: it allocates
// nothing and needs no library. The reader's decoder, which says what is wrong, is
// record_decoder.h; the layouts are those of FORMAT.md.
#ifndef OLLAMATRACE_FORMATS_RECORD_WALKER_H_
#define OLLAMATRACE_FORMATS_RECORD_WALKER_H_

#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"
#include "formats/varint.h"

namespace ollamatrace {

enum class WalkResult : uint8_t { kMore, kEnd, kBad };

class RecordWalker {
 public:
  // Of all zeros: at the end of a chunk.
  void Start(const uint8_t* records, size_t size) {
    *this = {};
    at_ = records;
    end_ = records + size;
  }
  size_t left() const { return static_cast<size_t>(end_ - at_); }

  // Gives the next record to `sink`: OnAlloc, OnFree, OnMap, OnUnmap, or, for a record with a
  // length, OnOther(tag, payload, payload_size, record, record_size). kBad: it is none that this
  // version knows, or it is cut.
  template <typename Sink>
  WalkResult Next(Sink* sink) {
    if (at_ == end_) return WalkResult::kEnd;
    const uint8_t* const record = at_;
    const uint8_t tag = *at_++;
    if (tag >= static_cast<uint8_t>(Tag::kLengthPrefixed)) {
      uint64_t size = 0;
      if (!GetVarint(&at_, end_, &size) || size > left()) return WalkResult::kBad;
      const uint8_t* const payload = at_;
      at_ += size;
      sink->OnOther(static_cast<Tag>(tag), payload, static_cast<size_t>(size), record,
                    static_cast<size_t>(at_ - record));
      return WalkResult::kMore;
    }
    return Event(static_cast<Tag>(tag), sink) ? WalkResult::kMore : WalkResult::kBad;
  }

 private:
  template <typename Sink>
  bool Event(Tag tag, Sink* sink) {
    uint64_t size = 0;
    switch (tag) {
      case Tag::kReset:
        time_ns_ = address_ = 0;
        thread_ = stack_ = 0;
        return true;
      case Tag::kTimeThread:
        return Delta(&time_ns_) && Number32(&thread_);
      case Tag::kAlloc: {
        if (left() < 2) return false;
        const Domain domain = static_cast<Domain>(*at_++);
        const AllocFunction function = static_cast<AllocFunction>(*at_++);
        if (!Delta(&address_) || !GetVarint(&at_, end_, &size) || !Delta32(&stack_)) return false;
        sink->OnAlloc(AllocRecord{time_ns_, ThreadId{thread_}, domain, function, StackId{stack_},
                                  address_, size});
        return true;
      }
      case Tag::kFree: {
        if (left() < 1) return false;
        const Domain domain = static_cast<Domain>(*at_++);
        if (!Delta(&address_)) return false;
        sink->OnFree(FreeRecord{time_ns_, ThreadId{thread_}, domain, address_});
        return true;
      }
      case Tag::kMap: {
        if (left() < 3) return false;
        MapRecord map;
        map.function = static_cast<AllocFunction>(*at_++);
        map.protection = *at_++;
        map.kind = *at_++;
        if (!Delta(&address_) || !GetVarint(&at_, end_, &map.length) || !Delta32(&stack_)) {
          return false;
        }
        map.time_ns = time_ns_;
        map.thread = ThreadId{thread_};
        map.stack = StackId{stack_};
        map.address = address_;
        sink->OnMap(map);
        return true;
      }
      case Tag::kUnmap:
        if (!Delta(&address_) || !GetVarint(&at_, end_, &size)) return false;
        sink->OnUnmap(UnmapRecord{time_ns_, ThreadId{thread_}, address_, size});
        return true;
      default:
        return false;
    }
  }
  bool Delta(uint64_t* value) {
    uint64_t zigzag = 0;
    if (!GetVarint(&at_, end_, &zigzag)) return false;
    *value += UnZigZag(zigzag);
    return true;
  }
  bool Delta32(uint32_t* value) {
    uint64_t wide = *value;
    if (!Delta(&wide) || wide >> 32 != 0) return false;
    *value = static_cast<uint32_t>(wide);
    return true;
  }
  bool Number32(uint32_t* value) {
    uint64_t wide = 0;
    if (!GetVarint(&at_, end_, &wide) || wide >> 32 != 0) return false;
    *value = static_cast<uint32_t>(wide);
    return true;
  }

  const uint8_t* at_ = nullptr;
  const uint8_t* end_ = nullptr;
  uint64_t time_ns_ = 0;
  uint64_t address_ = 0;
  uint32_t thread_ = 0;
  uint32_t stack_ = 0;
};

// Fields of a payload, from its front. What is not there is 0.
class PayloadReader {
 public:
  PayloadReader(const uint8_t* payload, size_t size) : at_(payload), end_(payload + size) {}
  uint64_t Number() {
    uint64_t value = 0;
    if (!GetVarint(&at_, end_, &value)) at_ = end_;
    return value;
  }
  uint8_t Byte() { return at_ == end_ ? 0 : *at_++; }

 private:
  const uint8_t* at_;
  const uint8_t* const end_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_FORMATS_RECORD_WALKER_H_
