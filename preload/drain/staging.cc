#include "preload/drain/staging.h"

#include <errno.h>

namespace ollamatrace {

bool Staging::StackSlow(uint32_t stack, size_t more) {
  const uint32_t known = journal_->header()->next_node.load(std::memory_order_acquire);
  uint32_t depth = 0;
  for (uint32_t id = stack;
       id != 0 && id < known && id < kMaxNodes && !IsWritten(id) && depth < kMaxStackDepth;
       id = journal_->node(id)->parent) {
    path_[depth++] = id;
  }
  if (!HasRoom(depth * kNodeBytes + more)) return false;
  while (depth > 0) {
    const uint32_t id = path_[--depth];
    const StackNode& node = *journal_->node(id);
    NodeRecord record;
    record.id = StackId{id};
    record.parent = StackId{node.parent};
    record.module = ModuleId{node.module & ~kNodeExact};
    record.address = node.address;
    record.exact = (node.module & kNodeExact) != 0 ? 1 : 0;
    bytes_ += static_cast<uint32_t>(EncodeNode(record, end()));
    written_[id / 64] |= uint64_t{1} << (id % 64);
    DrainStep();
  }
  return true;
}

bool Staging::Definition(uint64_t position, uint32_t size) {
  if (!HasRoom(size)) return false;
  const uint32_t begin = static_cast<uint32_t>(position % kDefinitionsBytes);
  const uint32_t until_wrap = kDefinitionsBytes - begin;
  const uint32_t first = size < until_wrap ? size : until_wrap;
  memcpy(end(), journal_->definitions() + begin, first);
  memcpy(end() + first, journal_->definitions(), size - first);
  bytes_ += size;
  DrainStep();
  return true;
}

size_t Staging::MakeChunk() {
  if (columns_ != nullptr && columns_->Write(journal_->staging(), bytes_, column_bytes_) != 0) {
    const size_t size = WriteColumnChunk(&writer_, chunks_, columns_->stats(), column_bytes_,
                                         columns_->ends(), chunk_, chunk_bytes_);
    if (size != 0) return size;
  }
  return WriteChunk(&writer_, chunks_, delta_.stats, journal_->staging(), bytes_, chunk_,
                    chunk_bytes_);
}

long Staging::WriteChunkToFile() {
  const size_t size = MakeChunk();
  if (size == 0) return -EIO;
  const long failure = WriteOwnFile(trace_, chunk_, size, trace_end_);
  if (failure != 0) return failure;
  DrainStep();
  trace_end_ += size;
  ++chunks_;
  bytes_ = 0;
  full_ = false;
  delta_ = {};
  return 0;
}

}  // namespace ollamatrace
