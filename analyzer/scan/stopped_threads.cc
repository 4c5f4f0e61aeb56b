#include "analyzer/scan/stopped_threads.h"

#include <dirent.h>
#include <elf.h>
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <memory>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

constexpr uint64_t kStopNs = 500'000'000;  // a thread in an uninterruptible wait takes longer
constexpr size_t kMaxRegisterBytes = 16384;

uint64_t NowNs() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<uint64_t>(now.tv_sec) * 1'000'000'000 + static_cast<uint64_t>(now.tv_nsec);
}

std::string FirstLine(const char* path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

absl::Status NotAllowed(pid_t pid) {
  const std::string scope = FirstLine("/proc/sys/kernel/yama/ptrace_scope");
  const std::string setting =
      scope.empty() || scope == "0"
          ? ""
          : absl::StrCat(", or set /proc/sys/kernel/yama/ptrace_scope (now ", scope, ") to 0");
  return absl::PermissionDeniedError(absl::StrCat(
      "process ", pid,
      ": not allowed to trace it; run this as root or with CAP_SYS_PTRACE (in a container: "
      "--cap-add=SYS_PTRACE)",
      setting, "; no debugger may be attached"));
}

void AddRegisters(pid_t tid, int set, std::vector<uint64_t>& out) {
  std::vector<uint64_t> words(kMaxRegisterBytes / 8);
  iovec vector = {words.data(), kMaxRegisterBytes};
  if (ptrace(static_cast<__ptrace_request>(PTRACE_GETREGSET), tid,
             reinterpret_cast<void*>(static_cast<intptr_t>(set)), &vector) != 0) {
    return;
  }
  out.insert(out.end(), words.begin(),
             words.begin() + static_cast<std::ptrdiff_t>(vector.iov_len / 8));
}

uint64_t StackPointerOf(const std::vector<uint64_t>& general) {
  user_regs_struct registers;
  if (general.size() * 8 < sizeof registers) return 0;
  memcpy(&registers, general.data(), sizeof registers);
  return registers.rsp;
}

}  // namespace

std::vector<pid_t> ThreadsOf(pid_t pid) {
  std::vector<pid_t> threads;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(
      opendir(absl::StrCat("/proc/", pid, "/task").c_str()), closedir);
  if (folder == nullptr) return threads;
  while (const dirent* const entry = readdir(folder.get())) {
    int tid;
    if (absl::SimpleAtoi(entry->d_name, &tid)) threads.push_back(tid);
  }
  return threads;
}

absl::Status MayTrace(pid_t pid) {
  std::ifstream status(absl::StrCat("/proc/", pid, "/status"));
  if (!status) return absl::NotFoundError(absl::StrCat("process ", pid, " has ended"));
  for (std::string line; std::getline(status, line);) {
    if (absl::StartsWith(line, "TracerPid:") && line.find_first_of("123456789") != line.npos) {
      return absl::PermissionDeniedError(absl::StrCat(
          "process ", pid, " is being traced by another process, a debugger for example"));
    }
  }
  // The kernel asks for the same rights as for ptrace (proc(5)).
  const int memory = open(absl::StrCat("/proc/", pid, "/mem").c_str(), O_RDONLY | O_CLOEXEC);
  if (memory < 0)
    return errno == ENOENT ? absl::NotFoundError(absl::StrCat("process ", pid, " has ended"))
                           : NotAllowed(pid);
  close(memory);
  return absl::OkStatus();
}

absl::Status StoppedThreads::SeizeNew(bool* any) {
  *any = false;
  for (const pid_t tid : ThreadsOf(pid_)) {
    if (tid == except_ || std::any_of(seized_.begin(), seized_.end(),
                                      [&](const Seized& one) { return one.tid == tid; })) {
      continue;
    }
    if (ptrace(PTRACE_SEIZE, tid, nullptr, nullptr) != 0) {
      if (errno == ESRCH) continue;  // it has ended
      return NotAllowed(pid_);
    }
    seized_.push_back({tid});
    *any = true;
  }
  return absl::OkStatus();
}

absl::Status StoppedThreads::Seize(pid_t pid, pid_t except) {
  pid_ = pid;
  except_ = except;
  bool any = true;
  while (any) {
    if (absl::Status status = SeizeNew(&any); !status.ok()) {
      Resume();
      return status;
    }
  }
  return seized_.empty() ? absl::NotFoundError(absl::StrCat("process ", pid, " has ended"))
                         : absl::OkStatus();
}

absl::Status StoppedThreads::Stop() {
  const uint64_t deadline = NowNs() + kStopNs;
  size_t asked = 0;
  while (true) {
    for (; asked < seized_.size(); ++asked) {
      ptrace(PTRACE_INTERRUPT, seized_[asked].tid, nullptr, nullptr);
    }
    bool waiting = false;
    for (Seized& one : seized_) {
      if (one.stopped || one.tid == 0) continue;
      int status = 0;
      const pid_t result = waitpid(one.tid, &status, __WALL | WNOHANG);
      if (result == 0) {
        waiting = true;
      } else if (result < 0 || !WIFSTOPPED(status)) {
        one.tid = 0;  // it has ended
      } else {
        one.stopped = true;
        // A signal was about to be delivered; other stops have an event.
        if (status >> 16 == 0) one.signal = WSTOPSIG(status);
      }
    }
    if (!waiting) {
      // Those that were started before their starters stopped.
      bool any = false;
      if (absl::Status status = SeizeNew(&any); !status.ok()) return status;
      if (!any) break;
    } else if (NowNs() > deadline) {
      Resume();
      return absl::DeadlineExceededError(
          absl::StrCat("process ", pid_, ": a thread of it does not stop; it goes on, try again"));
    } else {
      const timespec nap = {0, 20'000};
      nanosleep(&nap, nullptr);
    }
  }
  for (const Seized& one : seized_) {
    if (one.tid == 0) continue;
    StoppedThread& thread = stopped_.emplace_back();
    thread.tid = one.tid;
    AddRegisters(one.tid, NT_PRSTATUS, thread.registers);
    thread.stack_pointer = StackPointerOf(thread.registers);
    AddRegisters(one.tid, NT_X86_XSTATE, thread.registers);
  }
  return stopped_.empty() ? absl::NotFoundError(absl::StrCat("process ", pid_, " has ended"))
                          : absl::OkStatus();
}

void StoppedThreads::Resume() {
  for (const Seized& one : seized_) {
    if (one.tid == 0) continue;
    if (ptrace(PTRACE_DETACH, one.tid, nullptr,
               reinterpret_cast<void*>(static_cast<intptr_t>(one.signal))) == 0 ||
        errno != ESRCH) {
      continue;
    }
    // Not stopped yet: it can be let go of only then.
    int status = 0;
    if (waitpid(one.tid, &status, __WALL) == one.tid && WIFSTOPPED(status)) {
      const intptr_t signal = status >> 16 == 0 ? WSTOPSIG(status) : 0;
      ptrace(PTRACE_DETACH, one.tid, nullptr, reinterpret_cast<void*>(signal));
    }
  }
  seized_.clear();
}

}  // namespace ollamatrace
