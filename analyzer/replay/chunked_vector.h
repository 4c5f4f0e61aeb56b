// A vector that grows without moving what it holds.
#ifndef OLLAMATRACE_ANALYZER_REPLAY_CHUNKED_VECTOR_H_
#define OLLAMATRACE_ANALYZER_REPLAY_CHUNKED_VECTOR_H_

#include <cstddef>
#include <iterator>
#include <utility>
#include <vector>

namespace ollamatrace {

// Memory: that of its elements, and of one chunk more at most; never twice that of its elements, as
// when a vector grows. An element stays where it is. Thread-compatible.
template <typename T, size_t kChunkBits = 10>
class ChunkedVector {
 public:
  T& operator[](size_t i) { return chunks_[i >> kChunkBits][i & kMask]; }
  const T& operator[](size_t i) const { return chunks_[i >> kChunkBits][i & kMask]; }
  size_t size() const { return size_; }
  bool empty() const { return size_ == 0; }

  T& push_back(T value) {
    if (size_++ >> kChunkBits == chunks_.size()) {
      chunks_.emplace_back();
      chunks_.back().reserve(size_t{1} << kChunkBits);
    }
    chunks_.back().push_back(std::move(value));
    return chunks_.back().back();
  }

  template <typename Container, typename Value>
  class Iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = T;
    using difference_type = std::ptrdiff_t;
    using pointer = Value*;
    using reference = Value&;

    Iterator() = default;
    Iterator(Container* container, size_t i) : container_(container), i_(i) {}
    reference operator*() const { return (*container_)[i_]; }
    pointer operator->() const { return &(*container_)[i_]; }
    Iterator& operator++() {
      ++i_;
      return *this;
    }
    Iterator operator++(int) {
      Iterator before = *this;
      ++i_;
      return before;
    }
    friend bool operator==(const Iterator&, const Iterator&) = default;

   private:
    Container* container_ = nullptr;
    size_t i_ = 0;
  };
  using iterator = Iterator<ChunkedVector, T>;
  using const_iterator = Iterator<const ChunkedVector, const T>;
  iterator At(size_t i) { return {this, i}; }
  const_iterator At(size_t i) const { return {this, i}; }
  iterator begin() { return At(0); }
  iterator end() { return At(size_); }
  const_iterator begin() const { return At(0); }
  const_iterator end() const { return At(size_); }

 private:
  static constexpr size_t kMask = (size_t{1} << kChunkBits) - 1;

  std::vector<std::vector<T>> chunks_;
  size_t size_ = 0;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPLAY_CHUNKED_VECTOR_H_
