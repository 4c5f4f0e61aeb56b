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

#include <cstddef>
#include <cstdint>

namespace ollamatrace::capture {

// Two cache lines; most stacks need one and a half.
struct alignas(64) StackShape {
  static constexpr int kMaxWords = 50;

  uintptr_t pc;  // of the walk's start; 0: no shape
  uintptr_t sp;
  uint32_t walk;   // by what kind of walk it was found: a hash of module generation and limits
  uint32_t reach;  // bytes from sp to the end of the outermost word
  // Words of 8 bytes above sp: `addresses` return addresses, then `values` frame pointers. The
  // numbers are multiples of 4 and 2; the last word is there as often as it needs.
  uint8_t addresses;
  uint8_t values;
  bool frame_pointer_counts;  // the one that the walk started with
  uint16_t places[kMaxWords];
};
static_assert(sizeof(StackShape) == 128);

// A thread's shapes. Stacks that start at the same pc and sp may have two: the one that was met
// last comes first. All-zero bytes are an empty table.
struct StackShapeTable {
  static constexpr int kShapes = 256;
  static constexpr int kSets = 256;
  static constexpr int kWays = 2;

  uint32_t used;               // shapes [0, used) are, or were, in a set
  uint32_t next;               // that is replaced next, when all are used
  uint32_t sets[kSets];        // 1 + the first shape, then 1 + the second << 16
  StackShape shapes[kShapes];  // one after the other, so that few are few pages

  static uint32_t SetOf(uintptr_t pc, uintptr_t sp) {
    const uint64_t hash = (pc ^ (sp << 20)) * UINT64_C(0x9E3779B97F4A7C15);
    return static_cast<uint32_t>(hash >> 56);
  }
  // nullptr: there is none.
  const StackShape* Find(uintptr_t pc, uintptr_t sp, int way) const {
    const uint32_t number = sets[SetOf(pc, sp)] >> (16 * way) & 0xffff;
    const StackShape* const shape = &shapes[(number - 1) % kShapes];
    return number != 0 && shape->pc == pc && shape->sp == sp ? shape : nullptr;
  }
  // The second comes first from now on. One store: a signal handler may come at any time.
  void Swap(uintptr_t pc, uintptr_t sp) {
    uint32_t* const set = &sets[SetOf(pc, sp)];
    *set = *set << 16 | *set >> 16;
  }
  // Where a new shape is to be made; it will be the first of its set.
  StackShape* Take(uintptr_t pc, uintptr_t sp);
};

// One factor for each place: random and odd.
inline constexpr int kFactors = StackShape::kMaxWords + 2;
alignas(64) inline constexpr uint64_t kShapeFactors[kFactors] = {
    0xea8ff5f8d837115f, 0x50a74cff026f4c85, 0x8f8de0e973e1d037, 0xf11fc8de3eb459c9,
    0x856980bb0977e471, 0x2e7abed5658ef30d, 0x7ad367d4ab3e1d35, 0xf99e6ae5c3c79559,
    0x4c1d5c6a1f99f50d, 0x9fddb5fef1217709, 0xd7bfc82d73d9c869, 0x0dd6a32cc059f535,
    0x9c86269bdefda9ab, 0xd9f0b7c0e6f6dabf, 0xc1ace0d9a2729d41, 0xdd1c84e44fa930d7,
    0xdaaf6ec4a380626b, 0x0b1f3790be06f2fd, 0x9e19cfdf06744ffb, 0xea3d9d2048ecf043,
    0xa7e3deeab99a14f9, 0x2d4579fe90cf3f1d, 0x151bc8cc9eddb5e7, 0x46d1d9af3dd4d0f3,
    0xaac307276f67594f, 0x539bc950fc1a4093, 0x3de54e17c7836f95, 0x5f1bfb255eef1f8d,
    0x448fdfc9b2829097, 0x975d8cbac0ba9e79, 0x53c70a70c92c2151, 0xcf9e4f4204fb1857,
    0xc1f03b05c05c6f97, 0xa3d1165a531a0ded, 0xbabeab119dfba361, 0x64403c6a70d43907,
    0x1ede424776790f49, 0x71cc128fb45bd901, 0x3a29c5c1268ca41b, 0x704540b76a0154ad,
    0x9819e59f32cd0701, 0x0cab9e0c7015eb97, 0xe99c648c9c1726bd, 0xe0284275ec9bbfdf,
    0xa5196bd0bcde15a1, 0x32f46174fc86bb1d, 0x7d21e6ef4db35835, 0x1fe52838127f92fd,
    0x89db0d451ea7b5e5, 0x6744c1d7ac7f6c5f, 0xb09acdcde48041e7, 0xea96e66bd684b74b};

// Of the stack as it is now. The words from shape.sp to shape.sp + shape.reach can be read.
// Never 0. Multilinear (a sum of products by independent factors, modulo 2^64): stacks that differ
// in one word differ, others collide with a probability of 2^-64 for each trailing zero bit more
// that their differences have in common, twice that. No product waits for another one.
inline uint64_t Fingerprint(const StackShape& shape, uintptr_t frame_pointer) {
  const auto* const words = reinterpret_cast<const uint64_t*>(shape.sp);
  const uint16_t* place = shape.places;
  const uint16_t* const addresses_end = place + shape.addresses;
  const uint16_t* const end = addresses_end + shape.values;
  const uint64_t* factor = kShapeFactors;
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
