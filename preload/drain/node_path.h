#ifndef OLLAMATRACE_PRELOAD_DRAIN_NODE_PATH_H_
#define OLLAMATRACE_PRELOAD_DRAIN_NODE_PATH_H_

// The nodes of a stack that a file does not have yet.

#include <cstdint>

#include "preload/journal/journal.h"

namespace ollamatrace {

// A bit for each node: whether it is in the file.
inline bool IsNodeWritten(const uint64_t* written, uint32_t node) {
  return (written[node / 64] >> (node % 64) & 1) != 0;
}
inline void SetNodeWritten(uint64_t* written, uint32_t node) {
  written[node / 64] |= uint64_t{1} << (node % 64);
}

// Fills `path` (kMaxStackDepth entries) with the stack's nodes that are not written, innermost
// first. How many.
inline uint32_t UnwrittenNodes(const Journal& journal, const uint64_t* written, uint32_t stack,
                               uint32_t* path) {
  const uint32_t known = journal.header()->next_node.load(std::memory_order_acquire);
  uint32_t depth = 0;
  for (uint32_t id = stack; id != 0 && id < known && id < kMaxNodes &&
                            !IsNodeWritten(written, id) && depth < kMaxStackDepth;
       id = journal.node(id)->parent) {
    path[depth++] = id;
  }
  return depth;
}

inline NodeRecord NodeRecordOf(const Journal& journal, uint32_t id) {
  const StackNode& node = *journal.node(id);
  NodeRecord record;
  record.id = StackId{id};
  record.parent = StackId{node.parent};
  record.module = ModuleId{node.module & ~kNodeExact};
  record.address = node.address;
  record.exact = (node.module & kNodeExact) != 0 ? 1 : 0;
  return record;
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_DRAIN_NODE_PATH_H_
