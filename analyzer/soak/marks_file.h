// Appends to a session's marks.jsonl (formats/FORMAT.md).
#ifndef OLLAMATRACE_ANALYZER_SOAK_MARKS_FILE_H_
#define OLLAMATRACE_ANALYZER_SOAK_MARKS_FILE_H_

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "absl/strings/string_view.h"

namespace ollamatrace {

// CLOCK_MONOTONIC, ns: the clock of traces.
uint64_t MonotonicNow();

// Thread-safe: a line is one write to a file opened with O_APPEND.
class MarksFile {
 public:
  MarksFile() = default;
  ~MarksFile();
  MarksFile(const MarksFile&) = delete;
  MarksFile& operator=(const MarksFile&) = delete;

  // Creates the folder and the file, both for this user alone. The message names the path.
  absl::Status Open(const std::string& folder);

  // From now on this phase.
  void Phase(absl::string_view name) const;
  struct Request {
    uint64_t number = 0;
    uint64_t start_ns = 0;
    uint64_t end_ns = 0;
    int status = 0;
    uint64_t tokens = 0;
    bool answered = true;  // else the mark is called "failed-request" and counts for nothing
  };
  void Add(const Request& request) const;

 private:
  void Append(const std::string& line) const;
  int fd_ = -1;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SOAK_MARKS_FILE_H_
