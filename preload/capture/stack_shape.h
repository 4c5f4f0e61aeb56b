#ifndef OLLAMATRACE_PRELOAD_CAPTURE_STACK_SHAPE_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_STACK_SHAPE_H_

// A stack recognised without walking it.
//
// A walk is a function of where it starts (pc, sp, frame pointer) and of the words that its steps
// read: return addresses, and those saved frame pointers by which a later step found its frame.
// A shape is where these words lay when a stack was walked that started at this pc and sp. When
// the next stack starts there, the words at these places are hashed. Is the hash one that a walk
// of this shape gave before, then the stack is the one that was walked: each word has the value
// that led the walk from one of these places to the next. Is it another, nothing is known, and
// the stack is walked. So a shape is a guess that is always checked.
//
// Frame pointers are hashed by their distance from sp: a stack that is the same but lies elsewhere
// (in another thread, say) has the same fingerprint.

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ollamatrace::capture {

// Four cache lines; most stacks need one and a half.
struct alignas(64) StackShape {
  static constexpr int kMaxWords = 106;

  uintptr_t pc;  // of the walk's start; 0: no shape
  uintptr_t sp;
  // The stack that it recognised last: its fingerprint, and the id that the caller keeps for it.
  uint64_t last_fingerprint;
  uint32_t last_id;
  uint32_t walk;      // by what kind of walk it was found: a hash of module generation and limits
  uint32_t reach;     // bytes from sp to the end of the outermost word
  uint16_t failures;  // how seldom it recognises a stack, see Rests
  // Words of 8 bytes above sp: `addresses` return addresses, then `values` frame pointers. The
  // numbers are multiples of 4 and 2; the last word is there as often as it needs.
  uint8_t addresses;
  uint8_t values;
  bool frame_pointer_counts;  // the one that the walk started with
  uint16_t places[kMaxWords];

  // Where few stacks come again, recognising them is not worth what it costs. Each stack that is
  // not recognised counts, each that is takes kWorth back; after kMaxFailures so many stacks are
  // neither looked for nor remembered before one is again. A stack that did come again ends it.
  static constexpr uint16_t kMaxFailures = 4096;
  static constexpr uint16_t kRest = 63;
  static constexpr uint16_t kWorth = 3;

  // Whether it rests. To be called once for each stack.
  bool Rests() {
    if (__builtin_expect(failures < kMaxFailures, 1)) return false;
    if (++failures <= kMaxFailures + kRest) return true;
    failures = kMaxFailures;
    return false;
  }
  void EndRest() { failures = kMaxFailures - 1; }
  void CountFailure() { failures += failures < kMaxFailures ? 1 : 0; }
  void CountSuccess() { failures = failures > kWorth ? failures - kWorth : 0; }
  void SetLast(uint64_t fingerprint, uint32_t id) {
    last_fingerprint = 0;  // a signal handler may never return here
    std::atomic_signal_fence(std::memory_order_seq_cst);
    last_id = id;
    std::atomic_signal_fence(std::memory_order_seq_cst);
    last_fingerprint = fingerprint;
  }
  bool SamePlaces(const StackShape& other) const {
    return addresses == other.addresses && values == other.values &&
           frame_pointer_counts == other.frame_pointer_counts &&
           std::memcmp(places, other.places, (addresses + values) * sizeof *places) == 0;
  }
};
static_assert(sizeof(StackShape) == 256);

// A thread's shapes. Stacks that start at the same pc and sp may have several: the one that was met
// last comes first. All-zero bytes are an empty table.
struct StackShapeTable {
  static constexpr int kShapeBits = 10;
  static constexpr int kShapes = 1 << kShapeBits;
  static constexpr int kWays = 4;

  uint32_t used;               // shapes [0, used) are, or were, in a set
  uint32_t next;               // that is replaced next, when all are used
  uint64_t sets[kShapes];      // kWays times 16 bits, the first lowest: 1 + a shape's number, or 0
  StackShape shapes[kShapes];  // one after the other, so that few are few pages

  static uint32_t SetOf(uintptr_t pc, uintptr_t sp) {
    const uint64_t hash = (pc ^ (sp << 20)) * UINT64_C(0x9E3779B97F4A7C15);
    return static_cast<uint32_t>(hash >> (64 - kShapeBits));
  }
  // nullptr: there is none.
  StackShape* Find(uintptr_t pc, uintptr_t sp, int way) {
    const uint64_t number = sets[SetOf(pc, sp)] >> (16 * way) & 0xffff;
    StackShape* const shape = &shapes[(number - 1) % kShapes];
    return number != 0 && shape->pc == pc && shape->sp == sp ? shape : nullptr;
  }
  // This one comes first from now on. One store: a signal handler may come at any time.
  void MoveToFront(uintptr_t pc, uintptr_t sp, int way) {
    uint64_t* const set = &sets[SetOf(pc, sp)];
    const uint64_t before = *set & ((uint64_t{1} << (16 * way)) - 1);
    const uint64_t moved = *set >> (16 * way) & 0xffff;
    *set ^= (before | moved << (16 * way)) ^ (before << 16 | moved);
  }
  // Where a new shape is to be made; it will be the first of its set.
  StackShape* Take(uintptr_t pc, uintptr_t sp);
};

// One factor for each place: odd, and as good as random (splitmix64).
inline constexpr int kFactors = StackShape::kMaxWords + 2;
struct ShapeFactors {
  uint64_t of_place[kFactors];

  constexpr ShapeFactors() : of_place() {
    uint64_t state = 0;
    for (uint64_t& factor : of_place) {
      state += UINT64_C(0x9E3779B97F4A7C15);
      uint64_t mixed = (state ^ state >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
      mixed = (mixed ^ mixed >> 27) * UINT64_C(0x94D049BB133111EB);
      factor = (mixed ^ mixed >> 31) | 1;
    }
  }
};
alignas(64) inline constexpr ShapeFactors kShapeFactors;

// Of the stack as it is now. The words from shape.sp to shape.sp + shape.reach can be read.
// Never 0. Multilinear (a sum of products by independent factors, modulo 2^64): stacks that differ
// in one word differ, others collide with a probability of 2^-64 for each trailing zero bit more
// that their differences have in common, twice that. No product waits for another one.
inline uint64_t Fingerprint(const StackShape& shape, uintptr_t frame_pointer) {
  const auto* const words = reinterpret_cast<const uint64_t*>(shape.sp);
  const uint16_t* place = shape.places;
  const uint16_t* const addresses_end = place + shape.addresses;
  const uint16_t* const end = addresses_end + shape.values;
  const uint64_t* factor = kShapeFactors.of_place;
  uint64_t even = shape.pc * factor[0];
  uint64_t odd = shape.frame_pointer_counts ? (frame_pointer - shape.sp) * factor[1] : 0;
  factor += 2;
  for (; place != addresses_end; place += 4, factor += 4) {
    even += words[place[0]] * factor[0];
    odd += words[place[1]] * factor[1];
    even += words[place[2]] * factor[2];
    odd += words[place[3]] * factor[3];
  }
  for (; place != end; place += 2, factor += 2) {
    even += (words[place[0]] - shape.sp) * factor[0];
    odd += (words[place[1]] - shape.sp) * factor[1];
  }
  uint64_t hash = even + odd;
  hash ^= uint64_t{shape.walk} << 20 ^ uint64_t { shape.addresses } << 8 ^ shape.values;
  hash ^= hash >> 32;
  hash *= UINT64_C(0xD6E8FEB86659FD93);
  hash ^= hash >> 32;
  return hash != 0 ? hash : 1;
}

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_STACK_SHAPE_H_
