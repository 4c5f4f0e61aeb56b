// A frozen copy of a traced process: its memory, its threads' registers, and its journal, all of
// one moment.
#ifndef OLLAMATRACE_ANALYZER_SCAN_PROCESS_COPY_H_
#define OLLAMATRACE_ANALYZER_SCAN_PROCESS_COPY_H_

#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/statusor.h"
#include "analyzer/scan/stopped_threads.h"

namespace ollamatrace {

// The journal that a process has mapped, a path that this process can open. NotFound: no such
// process, or it is not traced; PermissionDenied: its /proc files are closed to us.
absl::StatusOr<std::string> FindJournal(pid_t pid);

class ProcessCopy {
 public:
  // Stops the process for the moment that a fork takes; the library in it forks (see
  // formats/journal_layout.h). Whatever happens, the process runs on, and the copy ends with this
  // object, or some seconds after this process was killed. Errors are one line; NotFound: the
  // process has ended.
  static absl::StatusOr<std::unique_ptr<ProcessCopy>> Make(pid_t pid, const std::string& journal);
  ~ProcessCopy();

  pid_t pid() const { return copy_; }  // of the copy
  // Not the thread of the library's that forked.
  const std::vector<StoppedThread>& threads() const { return threads_; }
  // An address within each thread's control block; 0: not known.
  const std::vector<uint64_t>& control_blocks() const { return control_blocks_; }
  uint64_t first_control_block() const { return first_control_block_; }
  uint64_t own_control_block() const { return own_control_block_; }
  // The session as it was: a journal in a temporary folder that nobody writes to, with its trace.
  const std::string& trace() const { return trace_; }
  uint64_t time_ns() const { return time_ns_; }    // CLOCK_MONOTONIC when everything stood still
  uint64_t pause_ns() const { return pause_ns_; }  // how long

 private:
  class Request;
  struct OpenFile {
    int fd;
    std::string suffix;  // of its name, behind what all files of the trace have in common
    std::string link;    // to it, in folder_
  };
  ProcessCopy() = default;
  void OpenTrace(const std::string& stem);

  pid_t copy_ = 0;
  std::vector<StoppedThread> threads_;
  std::vector<uint64_t> control_blocks_;
  uint64_t first_control_block_ = 0;
  uint64_t own_control_block_ = 0;
  std::vector<OpenFile> files_;
  std::string folder_;
  std::string trace_;
  uint64_t time_ns_ = 0;
  uint64_t pause_ns_ = 0;
  std::unique_ptr<Request> request_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SCAN_PROCESS_COPY_H_
