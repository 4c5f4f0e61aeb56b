#ifndef OLLAMATRACE_PRELOAD_DRAIN_LAYOUT_H_
#define OLLAMATRACE_PRELOAD_DRAIN_LAYOUT_H_

#include <cstddef>
#include <cstdint>

namespace ollamatrace {

// Lays arrays out one after the other; with no memory it counts only.
class Layout {
 public:
  explicit Layout(void* memory) : memory_(static_cast<uint8_t*>(memory)) {}
  template <typename T>
  T* Take(size_t count) {
    used_ = (used_ + 63) & ~size_t{63};
    T* const place = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + used_);
    used_ += count * sizeof(T);
    return place;
  }
  size_t used() const { return used_; }

 private:
  uint8_t* memory_;
  size_t used_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_LAYOUT_H_
