#include "preload/capture/unwinder_shapes.h"

#include <atomic>

namespace ollamatrace::capture {
namespace {

// The words on which a walk depended, as places of a shape: return addresses from the beginning of
// `places`, frame pointers from its end.
class PlaceList {
 public:
  explicit PlaceList(StackShape* shape) : shape_(shape) {}

  void AddAddress(const Check& check) { Add(check, addresses_++); }
  void AddValue(const Check& check) { Add(check, StackShape::kMaxWords - ++values_); }

  // Leaves them in the order that a shape has. False: they don't fit.
  bool Finish() {
    if (!fits_) return false;
    uint16_t* const places = shape_->places;
    const uint16_t* const values = places + StackShape::kMaxWords - values_;
    const int addresses = Filled(places, addresses_, 4);
    std::memmove(places + addresses, values, static_cast<size_t>(values_) * sizeof *places);
    shape_->addresses = static_cast<uint8_t>(addresses);
    shape_->values = static_cast<uint8_t>(Filled(places + addresses, values_, 2));
    shape_->reach = reach_;
    return true;
  }

 private:
  static constexpr uintptr_t kMaxDistance = uintptr_t{8} << 16;
  static constexpr int kMostFilled = 4;  // words more at the most

  void Add(const Check& check, int index) {
    const uintptr_t distance = reinterpret_cast<uintptr_t>(check.address) - shape_->sp;
    // Words in front of sp (a function that is about to return) are none of a shape's.
    fits_ = fits_ && (distance & 7) == 0 && distance < kMaxDistance &&
            addresses_ + values_ <= StackShape::kMaxWords - kMostFilled;
    if (!fits_) return;
    shape_->places[index] = static_cast<uint16_t>(distance / 8);
    if (distance + 8 > reach_) reach_ = static_cast<uint32_t>(distance + 8);
  }

  // Repeats the last one until their number is a multiple of `of`.
  static int Filled(uint16_t* places, int count, int of) {
    for (; count % of != 0; ++count) places[count] = places[count - 1];
    return count;
  }

  StackShape* const shape_;
  int addresses_ = 0;
  int values_ = 0;
  uint32_t reach_ = 0;
  bool fits_ = true;
};

}  // namespace

StackShape* StackShapeTable::Take(uintptr_t pc, uintptr_t sp) {
  uint64_t* const set = &sets[SetOf(pc, sp)];
  auto number = static_cast<uint32_t>(*set >> (16 * (kWays - 1)));
  if (number == 0) {
    if (used < kShapes) {
      number = ++used;
    } else {
      number = 1 + next++ % kShapes;
      const StackShape& old = shapes[number - 1];
      uint64_t* const other = &sets[SetOf(old.pc, old.sp)];
      uint64_t kept = 0;
      for (int way = kWays; way-- > 0;) {
        const uint64_t held = *other >> (16 * way) & 0xffff;
        if (held != number && held != 0) kept = kept << 16 | held;
      }
      *other = kept;
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
  StackShape made;
  made.pc = start.pc;
  made.sp = start.sp;
  PlaceList places(&made);
  // From the outermost frame inwards, so that it is known whether anybody asks for the frame
  // pointer that a step reads.
  bool wanted = false;
  const Frame* const begin = zone.frames + zone.begin;
  for (const Frame* frame = zone.frames + zone.end; frame-- != begin;) {
    const Check* check = zone.checks + frame->first_check;
    uint32_t count = frame[1].first_check - frame->first_check;
    if (count != 0 && frame->loads_bp) {
      --count;
      if (wanted) places.AddValue(check[count]);
    }
    // The return address; before it, where a function realigned its stack, the next frame's place.
    if (count != 0) places.AddAddress(check[count - 1]);
    if (count > 1) places.AddValue(check[0]);
    if (count > 2) return 0;
    wanted = frame->uses_bp || (wanted && !frame->loads_bp);
  }
  if (!places.Finish()) return 0;
  made.walk = WalkKind(*cache, max);
  made.frame_pointer_counts = wanted;
  const uint64_t fingerprint = Fingerprint(made, start.frame_pointer);
  for (int way = 0; way < StackShapeTable::kWays; ++way) {
    const StackShape* const known = cache->shapes.Find(start.pc, start.sp, way);
    if (known == nullptr || known->walk != made.walk || !known->SamePlaces(made)) continue;
    if (way != 0) cache->shapes.MoveToFront(start.pc, start.sp, way);
    return fingerprint;
  }
  StackShape* const shape = cache->shapes.Take(start.pc, start.sp);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  shape->sp = made.sp;
  shape->walk = made.walk;
  shape->reach = made.reach;
  shape->addresses = made.addresses;
  shape->values = made.values;
  shape->frame_pointer_counts = made.frame_pointer_counts;
  shape->failures = 0;
  shape->last_fingerprint = 0;
  std::memcpy(shape->places, made.places, (made.addresses + made.values) * sizeof *made.places);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  shape->pc = start.pc;
  return fingerprint;
}

}  // namespace ollamatrace::capture
