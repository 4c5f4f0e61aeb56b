#ifndef OLLAMATRACE_PRELOAD_DRAIN_TOUCHED_RANGES_H_
#define OLLAMATRACE_PRELOAD_DRAIN_TOUCHED_RANGES_H_

// The address ranges that some segments map or unmap, and what is mapped there at their end.
// Bounded: what finds no room is left for another pass over the segments.

#include <cstdint>
#include <cstring>

#include "formats/trace_format.h"
#include "preload/drain/pass_range.h"

namespace ollamatrace {

// Disjoint ranges, sorted. `Range` has begin and end.
template <typename Range, uint32_t capacity>
class RangeList {
 public:
  void Init(Range* ranges) {
    ranges_ = ranges;
    count_ = 0;
  }
  static constexpr uint32_t kCapacity = capacity;
  uint32_t count() const { return count_; }
  bool HasRoom(uint32_t more) const { return count_ + more <= capacity; }
  Range& operator[](uint32_t index) { return ranges_[index]; }
  const Range& operator[](uint32_t index) const { return ranges_[index]; }
  // The first range that ends behind `address`; count() when there is none.
  uint32_t FirstEndingAfter(uint64_t address) const {
    uint32_t low = 0;
    uint32_t high = count_;
    while (low < high) {
      const uint32_t middle = low + (high - low) / 2;
      if (ranges_[middle].end > address) {
        high = middle;
      } else {
        low = middle + 1;
      }
    }
    return low;
  }
  void Insert(uint32_t index, const Range& range) {
    memmove(&ranges_[index + 1], &ranges_[index], (count_ - index) * sizeof(Range));
    ranges_[index] = range;
    ++count_;
  }
  void Remove(uint32_t index, uint32_t number) {
    memmove(&ranges_[index], &ranges_[index + number], (count_ - index - number) * sizeof(Range));
    count_ -= number;
  }
  void CutAt(uint64_t end) {
    while (count_ > 0 && ranges_[count_ - 1].begin >= end) --count_;
    if (count_ > 0 && ranges_[count_ - 1].end > end) ranges_[count_ - 1].end = end;
  }
  void Clear() { count_ = 0; }

 private:
  Range* ranges_;
  uint32_t count_;
};

class TouchedRanges {
 public:
  struct Touched {
    uint64_t begin, end;
    uint64_t touched_ns;  // of the first record about this range
    uint32_t samples;     // samples before that record
  };
  struct Piece {  // of a mapping, live
    uint64_t begin, end;
    MapRecord map;  // its address and length are the mapping's own
  };
  static constexpr uint32_t kMaxRanges = 16u << 10;
  using TouchedList = RangeList<Touched, kMaxRanges>;
  using PieceList = RangeList<Piece, kMaxRanges>;

  // Zeroed memory: kMaxRanges of each.
  void Init(Touched* touched, Piece* pieces) {
    touched_.Init(touched);
    pieces_.Init(pieces);
    pass_.Start(~uint64_t{0});
  }

  // The keys of a pass are addresses.
  const PassRange& pass() const { return pass_; }
  // The next pass, with empty lists. False: there is none left to do.
  bool NextPass() {
    touched_.Clear();
    pieces_.Clear();
    return pass_.Next();
  }

  // [begin, end) was unmapped, or mapped when `map` is given. died(piece, begin, end, whole): what
  // of a live piece that was; `whole`: nothing of the piece is left. `event` is the number of this
  // one. False: there can be no room.
  template <typename Died>
  bool Touch(uint64_t begin, uint64_t end, uint64_t time_ns, uint32_t samples, uint64_t event,
             const MapRecord* map, Died died) {
    if (begin >= pass_.end() || end <= pass_.begin()) return true;
    // What one call adds: a piece cut in two, the new one, and a range in each gap.
    while (!pieces_.HasRoom(2) || !touched_.HasRoom(1 + Gaps(begin, end))) {
      if (!Narrow(event)) return false;
    }
    if (begin < pass_.begin()) begin = pass_.begin();
    if (end > pass_.end()) end = pass_.end();
    if (begin >= end) return true;
    AddTouched(begin, end, time_ns, samples);
    Cut(begin, end, died);
    if (map != nullptr) {
      pieces_.Insert(pieces_.FirstEndingAfter(begin), {begin, end, *map});
    }
    return true;
  }

  const TouchedList& touched() const { return touched_; }
  const PieceList& pieces() const { return pieces_; }

 private:
  uint32_t Gaps(uint64_t begin, uint64_t end) const {
    uint32_t overlapped = 0;
    for (uint32_t i = touched_.FirstEndingAfter(begin);
         i < touched_.count() && touched_[i].begin < end; ++i) {
      ++overlapped;
    }
    return overlapped + 1;
  }
  // Leaves the upper half for another pass.
  bool Narrow(uint64_t event) {
    const bool by_touched = touched_.count() >= pieces_.count();
    const uint32_t count = by_touched ? touched_.count() : pieces_.count();
    if (count < 2) return false;
    const uint64_t middle = by_touched ? touched_[count / 2].begin : pieces_[count / 2].begin;
    if (!pass_.Narrow(middle, event)) return false;
    touched_.CutAt(middle);
    pieces_.CutAt(middle);
    return true;
  }
  void AddTouched(uint64_t begin, uint64_t end, uint64_t time_ns, uint32_t samples) {
    uint32_t i = touched_.FirstEndingAfter(begin);
    while (begin < end) {
      if (i == touched_.count() || touched_[i].begin >= end) {
        touched_.Insert(i, {begin, end, time_ns, samples});
        return;
      }
      if (touched_[i].begin > begin) {
        const uint64_t next = touched_[i].begin;
        touched_.Insert(i, {begin, next, time_ns, samples});
        ++i;
      }
      begin = touched_[i].end;
      ++i;
    }
  }
  template <typename Died>
  void Cut(uint64_t begin, uint64_t end, Died died) {
    uint32_t i = pieces_.FirstEndingAfter(begin);
    if (i < pieces_.count() && pieces_[i].begin < begin) {
      Piece* const piece = &pieces_[i];
      if (piece->end > end) {
        Piece rest = *piece;
        died(*piece, begin, end, false);
        piece->end = begin;
        rest.begin = end;
        pieces_.Insert(i + 1, rest);
        return;
      }
      died(*piece, begin, piece->end, false);
      piece->end = begin;
      ++i;
    }
    uint32_t whole = 0;
    while (i + whole < pieces_.count() && pieces_[i + whole].end <= end) {
      const Piece& piece = pieces_[i + whole];
      died(piece, piece.begin, piece.end, true);
      ++whole;
    }
    pieces_.Remove(i, whole);
    if (i < pieces_.count() && pieces_[i].begin < end) {
      died(pieces_[i], pieces_[i].begin, end, false);
      pieces_[i].begin = end;
    }
  }

  TouchedList touched_;
  PieceList pieces_;
  PassRange pass_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_TOUCHED_RANGES_H_
