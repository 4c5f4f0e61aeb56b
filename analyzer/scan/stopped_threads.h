// The threads of another process, stopped for a moment by ptrace(2).
#ifndef OLLAMATRACE_ANALYZER_SCAN_STOPPED_THREADS_H_
#define OLLAMATRACE_ANALYZER_SCAN_STOPPED_THREADS_H_

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace ollamatrace {

struct StoppedThread {
  pid_t tid = 0;
  uint64_t stack_pointer = 0;
  std::vector<uint64_t> registers;  // all of them as words, vector registers too
};

// Whether ptrace is allowed, without doing it. PermissionDenied: with what to allow; NotFound:
// there is no such process.
absl::Status MayTrace(pid_t pid);

// Attaches by PTRACE_SEIZE: when this process dies, however it does, the kernel lets go of the
// threads, and they run on. To be used by one thread.
class StoppedThreads {
 public:
  StoppedThreads() = default;
  StoppedThreads(const StoppedThreads&) = delete;
  StoppedThreads& operator=(const StoppedThreads&) = delete;
  ~StoppedThreads() { Resume(); }

  // Attaches to all threads but `except` (0: to all), which goes on running and must not start any.
  // PermissionDenied: ptrace is not allowed, with what to allow; NotFound: the process is gone.
  absl::Status Seize(pid_t pid, pid_t except);
  // Stops them. DeadlineExceeded: one did not stop; all run on then.
  absl::Status Stop();
  // Lets them go on, with the signals that came meanwhile.
  void Resume();

  const std::vector<StoppedThread>& threads() const { return stopped_; }

 private:
  struct Seized {
    pid_t tid = 0;
    bool stopped = false;
    int signal = 0;  // to be delivered
  };
  absl::Status SeizeNew(bool* any);

  pid_t pid_ = 0;
  pid_t except_ = 0;
  std::vector<Seized> seized_;
  std::vector<StoppedThread> stopped_;
};

// Of all threads of a process, as /proc has them.
std::vector<pid_t> ThreadsOf(pid_t pid);

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SCAN_STOPPED_THREADS_H_
