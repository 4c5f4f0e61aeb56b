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
  uint32_t walk;  // by what kind of walk it was found: a hash of module generation and limits
  uint32_t reach;  // bytes from sp to the end of the outermost word
  // Words of 8 bytes above sp: `addresses` return addresses, then `values` frame pointers. Both
  // numbers are even; the last one of an odd list is there twice.
  uint8_t addresses;
  uint8_t values;
  bool frame_pointer_counts;  // the one that the walk started with
  uint16_t places[kMaxWords];
};
static_assert(sizeof(StackShape) == 128);

__extension__ using Product = unsigned __int128;

// Of a thread, by pc and sp.
inline constexpr int kStackShapes = 256;

inline uint32_t StackShapeIndex(uintptr_t pc, uintptr_t sp) {
  const uint64_t hash = (pc ^ (sp << 20)) * UINT64_C(0x9E3779B97F4A7C15);
  return static_cast<uint32_t>(hash >> 56);
}
static_assert(kStackShapes == 1 << 8);

// Of the stack as it is now. The words from shape.sp to shape.sp + shape.reach can be read.
// Never 0.
inline uint64_t Fingerprint(const StackShape& shape, uintptr_t frame_pointer) {
  constexpr uint64_t kStep = UINT64_C(0xA0761D6478BD642F);
  constexpr uint64_t kOther = UINT64_C(0xE7037ED1A0B428DB);
  const auto* const words = reinterpret_cast<const uint64_t*>(shape.sp);
  auto mix = [](uint64_t a, uint64_t b) {
    const auto product = static_cast<Product>(a) * b;
    return static_cast<uint64_t>(product) ^ static_cast<uint64_t>(product >> 64);
  };
  uint64_t sum = mix(shape.pc ^ kOther, (uint64_t{shape.walk} << 16 | uint64_t{shape.addresses} << 8 |
                                         shape.values) ^
                                            kStep);
  // The products do not wait for each other.
  uint64_t key = kStep;
  const uint16_t* place = shape.places;
  for (int i = 0; i < shape.addresses; i += 2, place += 2, key += 2 * kOther) {
    sum += mix(words[place[0]] ^ key, words[place[1]] ^ (key + kOther));
  }
  for (int i = 0; i < shape.values; i += 2, place += 2, key += 2 * kOther) {
    sum += mix((words[place[0]] - shape.sp) ^ key, (words[place[1]] - shape.sp) ^ (key + kOther));
  }
  if (shape.frame_pointer_counts) sum += mix((frame_pointer - shape.sp) ^ key, kOther);
  const uint64_t fingerprint = mix(sum ^ kStep, kOther);
  return fingerprint != 0 ? fingerprint : 1;
}

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_STACK_SHAPE_H_
