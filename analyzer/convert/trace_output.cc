#include "analyzer/convert/trace_output.h"

#include <algorithm>
#include <utility>

namespace ollamatrace {
namespace {

constexpr int kLevel = 3;
constexpr size_t kRoom = kTargetChunkBytes + std::max(kMaxRecordBytes, kEventBytes);

}  // namespace

TraceOutput::TraceOutput(std::function<void(absl::string_view)> sink)
    : sink_(std::move(sink)),
      workspace_(ChunkWorkspaceBytes(kLevel) / sizeof(uint64_t) + 1),
      records_(kRoom),
      chunk_(ChunkBound(kRoom)) {
  InitChunkWriter(&writer_, workspace_.data(), workspace_.size() * sizeof(uint64_t), kLevel);
}

void TraceOutput::CloseChunk() {
  if (used_ == 0) return;
  const size_t size = WriteChunk(&writer_, number_++, state_.stats, records_.data(), used_,
                                 chunk_.data(), chunk_.size());
  sink_({reinterpret_cast<const char*>(chunk_.data()), size});
  used_ = 0;
  state_ = DeltaState{};
}

}  // namespace ollamatrace
