#include "preload/drain/checkpoint_writer.h"

#include <errno.h>

#include "preload/drain/node_path.h"
#include "preload/drain/undo_log.h"

namespace ollamatrace {

void CheckpointWriter::Stack(uint32_t stack) {
  if (stack == 0 || stack >= kMaxNodes || IsNodeWritten(written_, stack)) return;
  for (uint32_t depth = UnwrittenNodes(*journal_, written_, stack, path_); depth > 0; --depth) {
    const uint32_t id = path_[depth - 1];
    Count(EncodeNode(NodeRecordOf(*journal_, id), end()));
    SetNodeWritten(written_, id);
  }
}

long CheckpointWriter::Flush() {
  if (bytes_ == 0) return 0;
  const size_t size = WriteChunk(writer_, chunks_, delta_.stats, raw_, bytes_, chunk_, kChunkBytes);
  if (size == 0) return -EIO;
  const long failure = WriteOwnFile(file_, chunk_, size, file_bytes_);
  if (failure != 0) return failure;
  DrainStep();
  file_bytes_ += size;
  ++chunks_;
  bytes_ = 0;
  delta_ = {};
  return 0;
}

}  // namespace ollamatrace
