// Call stacks as sequences of named frames, each distinct one once.
#ifndef OLLAMATRACE_ANALYZER_REPORT_FRAME_PATHS_H_
#define OLLAMATRACE_ANALYZER_REPORT_FRAME_PATHS_H_

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "absl/container/flat_hash_set.h"

namespace ollamatrace {

// Two sequences are equal exactly when they are the same Path. Thread-compatible. Memory: about 16
// bytes for each beginning, counted from the outermost frame, that some sequences have in common.
class FramePaths {
 public:
  using Path = uint32_t;
  static constexpr Path kEmpty = 0;

  FramePaths() = default;
  // The set's functions refer to nodes_.
  FramePaths(const FramePaths&) = delete;
  FramePaths& operator=(const FramePaths&) = delete;

  // `frame`, called by what `outer` ends with.
  Path Extend(Path outer, uint32_t frame);

  // The innermost frame; not of kEmpty. And the path of those that called it.
  uint32_t Frame(Path path) const { return nodes_[path].frame; }
  Path Outer(Path path) const { return nodes_[path].outer; }
  // Innermost first.
  std::vector<uint32_t> Frames(Path path) const;
  // Of Frames(a) and Frames(b) by lexicographical order: below, at or above 0.
  int Compare(Path a, Path b) const;

 private:
  struct Node {
    Path outer = kEmpty;
    uint32_t frame = 0;
    friend bool operator==(const Node&, const Node&) = default;
    template <typename H>
    friend H AbslHashValue(H h, const Node& node) {
      return H::combine(std::move(h), node.outer, node.frame);
    }
  };
  struct Hash {
    using is_transparent = void;
    const std::vector<Node>* nodes;
    size_t operator()(const Node& node) const { return absl::Hash<Node>()(node); }
    size_t operator()(Path path) const { return absl::Hash<Node>()((*nodes)[path]); }
  };
  struct Equal {
    using is_transparent = void;
    const std::vector<Node>* nodes;
    bool operator()(Path a, Path b) const { return a == b; }
    bool operator()(Path a, const Node& b) const { return (*nodes)[a] == b; }
  };

  std::vector<Node> nodes_{1};  // by path
  absl::flat_hash_set<Path, Hash, Equal> paths_{0, Hash{&nodes_}, Equal{&nodes_}};
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_REPORT_FRAME_PATHS_H_
