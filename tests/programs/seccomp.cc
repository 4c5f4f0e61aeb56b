// A sandboxed target: from now on most system calls fail (argv[1] "errno") or end the thread's
// process ("kill").
//
// With "errno" all threads are filtered, the tracer's own among them. With "kill" only the calling
// thread is, so that the test is about what the hooks do on the target's threads: they may not need
// any system call that the target does not make itself.
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectLossy;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::kSkip;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepSandboxed() { Opaque(malloc(44)); }

namespace {

constexpr int kAllowed[] = {SYS_read,
                            SYS_write,
                            SYS_exit,
                            SYS_exit_group,
                            SYS_brk,
                            SYS_mmap,
                            SYS_munmap,
                            SYS_mremap,
                            SYS_mprotect,
                            SYS_futex,
                            SYS_madvise,
                            SYS_rt_sigreturn,
                            SYS_getpid,
                            SYS_clock_gettime,
                            SYS_sched_yield,
                            SYS_clock_nanosleep,
                            SYS_restart_syscall};
constexpr size_t kAllowedCount = sizeof kAllowed / sizeof kAllowed[0];

bool Filter(unsigned otherwise, unsigned flags) {
  sock_filter program[kAllowedCount + 3];
  size_t at = 0;
  program[at++] = BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr));
  for (size_t i = 0; i < kAllowedCount; ++i) {
    program[at++] = BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(kAllowed[i]),
                             static_cast<unsigned char>(kAllowedCount - i), 0);
  }
  program[at++] = BPF_STMT(BPF_RET | BPF_K, otherwise);
  program[at++] = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
  sock_fprog filter = {static_cast<unsigned short>(at), program};
  return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &filter) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  PROGRAM_CHECK(argc == 2);
  const bool kill = strcmp(argv[1], "kill") == 0;
  ExpectLossy("what is not on the disk yet cannot be written any more");
  ExpectSurvivors("KeepSandboxed", 2000, 88000);
  for (int i = 0; i < 1000; ++i) KeepSandboxed();
  puts("entering the sandbox");
  fflush(stdout);
  const bool filtered = kill ? Filter(SECCOMP_RET_KILL_PROCESS, 0)
                             : Filter(SECCOMP_RET_ERRNO | EPERM, SECCOMP_FILTER_FLAG_TSYNC);
  if (!filtered) return kSkip;
  for (int i = 0; i < 1000; ++i) {
    KeepSandboxed();
    for (size_t k = 0; k < 100; ++k) free(Opaque(malloc(k * 50)));
  }
  puts("done");
  fflush(stdout);
  return 0;
}
