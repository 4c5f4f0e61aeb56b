#include "analyzer/report/frame_paths.h"

namespace ollamatrace {

FramePaths::Path FramePaths::Extend(Path outer, uint32_t frame) {
  const Node node = {outer, frame};
  const auto found = paths_.find(node);
  if (found != paths_.end()) return *found;
  const Path path = static_cast<Path>(nodes_.size());
  nodes_.push_back(node);
  paths_.insert(path);
  return path;
}

std::vector<uint32_t> FramePaths::Frames(Path path) const {
  std::vector<uint32_t> frames;
  for (; path != kEmpty; path = Outer(path)) frames.push_back(Frame(path));
  return frames;
}

int FramePaths::Compare(Path a, Path b) const {
  for (; a != b; a = Outer(a), b = Outer(b)) {
    if (a == kEmpty) return -1;
    if (b == kEmpty) return 1;
    if (Frame(a) != Frame(b)) return Frame(a) < Frame(b) ? -1 : 1;
  }
  return 0;
}

}  // namespace ollamatrace
