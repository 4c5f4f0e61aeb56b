// Reads a frozen process's memory, and of it only what is there.
#ifndef OLLAMATRACE_ANALYZER_SCAN_COPY_READER_H_
#define OLLAMATRACE_ANALYZER_SCAN_COPY_READER_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "analyzer/scan/reachability.h"
#include "formats/memory_map.h"

namespace ollamatrace {

class CopyReader {
 public:
  // `map` is the copy's.
  CopyReader(pid_t pid, const MemoryMap& map);

  // As WordReader: pages of anonymous memory that hold nothing are left out; what cannot be read,
  // too.
  void Read(uint64_t begin, uint64_t end, const WordVisitor& words);

  uint64_t bytes() const { return bytes_; }  // read so far
  bool gone() const { return gone_; }        // the process has ended

 private:
  void ReadAll(uint64_t begin, uint64_t end, const WordVisitor& words);

  const pid_t pid_;
  std::vector<PageRun> held_;  // ascending, disjoint
  std::vector<uint64_t> buffer_;
  uint64_t bytes_ = 0;
  bool gone_ = false;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SCAN_COPY_READER_H_
