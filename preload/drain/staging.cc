#include "preload/drain/staging.h"

#include <errno.h>

namespace ollamatrace {

bool Staging::StackSlow(uint32_t stack, size_t more) {
  uint32_t depth = UnwrittenNodes(*journal_, written_, stack, path_);
  if (!HasRoom(depth * kNodeBytes + more)) return false;
  while (depth > 0) {
    const uint32_t id = path_[--depth];
    bytes_ += static_cast<uint32_t>(EncodeNode(NodeRecordOf(*journal_, id), end()));
    SetNodeWritten(written_, id);
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

void Staging::BeginFile(uint32_t segment, uint64_t segment_ns) {
  const uint32_t nodes = journal_->header()->next_node.load(std::memory_order_acquire);
  memset(written_, 0, (nodes / 64 + 1) * sizeof written_[0]);
  trace_end_ = 0;
  chunks_ = 0;
  events_ = 0;
  bytes_ = static_cast<uint32_t>(EncodeSegmentHeader(journal_->identity(),
                                                     journal_->header()->identity_bytes, segment,
                                                     segment_ns, journal_->staging()));
  DrainStep();
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
  events_ += delta_.stats.events;
  bytes_ = 0;
  full_ = false;
  delta_ = {};
  return 0;
}

}  // namespace ollamatrace
