#include "preload/capture/unwinder_shapes.h"

#include <atomic>

namespace ollamatrace::capture {
namespace {

// The words on which a walk depended, as places of a shape.
class PlaceList {
 public:
  explicit PlaceList(uintptr_t sp) : sp_(sp) {}

  void Add(const Check& check) {
    const uintptr_t distance = reinterpret_cast<uintptr_t>(check.address) - sp_;
    // Words in front of sp (a function that is about to return) are none of a shape's.
    if ((distance & 7) != 0 || distance >= kMaxDistance || count_ == StackShape::kMaxWords) {
      fits_ = false;
      return;
    }
    places_[count_++] = static_cast<uint16_t>(distance / 8);
    if (distance + 8 > reach_) reach_ = static_cast<uint32_t>(distance + 8);
  }
  bool fits() const { return fits_; }
  int count() const { return count_; }
  uint32_t reach() const { return reach_; }

  // Writes them to `out`, the last one again until their number is a multiple of `of`. Answers how
  // many it wrote.
  int CopyTo(uint16_t* out, int of) const {
    int written = 0;
    for (; written < count_ || written % of != 0; ++written) {
      out[written] = places_[written < count_ ? written : count_ - 1];
    }
    return written;
  }

 private:
  static constexpr uintptr_t kMaxDistance = uintptr_t{8} << 16;

  const uintptr_t sp_;
  int count_ = 0;
  uint32_t reach_ = 0;
  bool fits_ = true;
  uint16_t places_[StackShape::kMaxWords];
};

}  // namespace

StackShape* StackShapeTable::Take(uintptr_t pc, uintptr_t sp) {
  uint32_t* const set = &sets[SetOf(pc, sp)];
  uint32_t number = *set >> 16;
  if (number == 0) {
    if (used < kShapes) {
      number = ++used;
    } else {
      number = 1 + next++ % kShapes;
      const StackShape& old = shapes[number - 1];
      uint32_t* const other = &sets[SetOf(old.pc, old.sp)];
      if (*other >> 16 == number) *other &= 0xffff;
      if ((*other & 0xffff) == number) *other >>= 16;
    }
  }
  StackShape* const shape = &shapes[number - 1];
  shape->pc = 0;  // no shape as long as it is being made: a signal handler may never return here
  std::atomic_signal_fence(std::memory_order_seq_cst);
  *set = *set << 16 | number;
  return shape;
}

uint64_t RememberShape(ThreadUnwindCache* cache, const CallerFrame& start, int max) {
  const FrameZone& zone = cache->zones[cache->zone];
  if (!zone.determined || zone.begin == zone.end || zone.end - zone.begin > StackShape::kMaxWords) {
    return 0;
  }
  PlaceList addresses(start.sp);
  PlaceList values(start.sp);
  // From the outermost frame inwards, so that it is known whether anybody asks for the frame
  // pointer that a step reads.
  bool wanted = false;
  const Frame* const begin = zone.frames + zone.begin;
  for (const Frame* frame = zone.frames + zone.end; frame-- != begin;) {
    const Check* check = zone.checks + frame->first_check;
    uint32_t count = frame[1].first_check - frame->first_check;
    if (count != 0 && frame->loads_bp) {
      --count;
      if (wanted) values.Add(check[count]);
    }
    // The return address; before it, where a function realigned its stack, the next frame's place.
    if (count != 0) addresses.Add(check[count - 1]);
    if (count > 1) values.Add(check[0]);
    if (count > 2) return 0;
    wanted = frame->uses_bp || (wanted && !frame->loads_bp);
  }
  if (!addresses.fits() || !values.fits() ||
      addresses.count() + values.count() > StackShape::kMaxWords - 4) {
    return 0;
  }
  StackShape* const shape = cache->shapes.Take(start.pc, start.sp);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  shape->sp = start.sp;
  shape->walk = WalkKind(*cache, max);
  shape->reach = addresses.reach() > values.reach() ? addresses.reach() : values.reach();
  shape->addresses = static_cast<uint8_t>(addresses.CopyTo(shape->places, 4));
  shape->values = static_cast<uint8_t>(values.CopyTo(shape->places + shape->addresses, 2));
  shape->frame_pointer_counts = wanted;
  std::atomic_signal_fence(std::memory_order_seq_cst);
  shape->pc = start.pc;
  return Fingerprint(*shape, start.frame_pointer);
}

}  // namespace ollamatrace::capture
