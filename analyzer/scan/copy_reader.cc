#include "analyzer/scan/copy_reader.h"

#include <sys/uio.h>

#include <algorithm>
#include <cerrno>

#include "absl/types/span.h"
#include "analyzer/diagnose/pages.h"

namespace ollamatrace {
namespace {

constexpr size_t kBufferWords = (1u << 20) / 8;
constexpr uint64_t kPage = 4096;

}  // namespace

CopyReader::CopyReader(pid_t pid, const MemoryMap& map) : pid_(pid), buffer_(kBufferWords) {
  const auto add = [this](uint64_t begin, uint64_t end) {
    if (!held_.empty() && held_.back().end == begin) {
      held_.back().end = end;
    } else if (begin < end) {
      held_.push_back({begin, end});
    }
  };
  for (const MemoryArea& area : map.areas) {
    if (IsAnonymous(area) && area.runs_known) {
      for (const PageRun& run : area.runs) add(run.begin, run.end);
    } else if (!IsAnonymous(area) || area.rss + area.swap > 0) {
      add(area.begin, area.end);
    }
  }
}

void CopyReader::Read(uint64_t begin, uint64_t end, const WordVisitor& words) {
  auto run = std::lower_bound(held_.begin(), held_.end(), begin,
                              [](const PageRun& one, uint64_t at) { return one.end <= at; });
  for (; run != held_.end() && run->begin < end; ++run) {
    ReadAll(std::max(begin, run->begin), std::min(end, run->end), words);
  }
}

void CopyReader::ReadAll(uint64_t begin, uint64_t end, const WordVisitor& words) {
  while (begin < end && !gone_) {
    const size_t size = std::min<uint64_t>(end - begin, kBufferWords * 8);
    iovec local = {buffer_.data(), size};
    iovec remote = {reinterpret_cast<void*>(begin), size};
    const ssize_t got = process_vm_readv(pid_, &local, 1, &remote, 1, 0);
    if (got < 8) {
      gone_ = gone_ || errno == ESRCH;
      begin = (begin + kPage) & ~(kPage - 1);  // the next page
      continue;
    }
    bytes_ += static_cast<uint64_t>(got);
    words(absl::MakeConstSpan(buffer_.data(), static_cast<size_t>(got) / 8));
    begin += static_cast<uint64_t>(got) & ~uint64_t{7};
  }
}

}  // namespace ollamatrace
