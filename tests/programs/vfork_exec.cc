// vfork, and clone as Go's runtime does it: the child shares the memory of its parent and runs no
// atfork handler.
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectProcesses;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepAfterVfork() { Opaque(malloc(45)); }

namespace {

extern "C" char** environ;
std::atomic<bool> stop{false};
char program[] = PROGRAM_DIR "/program_child";
char count[] = "5";
char status[] = "6";
char* arguments[] = {program, count, status, nullptr};

void* Churn(void*) {
  while (!stop.load()) {
    for (size_t i = 1; i < 100; ++i) free(Opaque(malloc(i)));
  }
  return nullptr;
}

void Wait(const char* what, pid_t pid) {
  PROGRAM_CHECK(pid > 0);
  int wait_status = 0;
  PROGRAM_CHECK(waitpid(pid, &wait_status, 0) == pid);
  printf("%s: exited %d, status %d\n", what, WIFEXITED(wait_status), WEXITSTATUS(wait_status));
}

int ExecOnOwnStack(void*) {
  execve(program, arguments, environ);
  _exit(97);
}

int LeaveOnOwnStack(void*) {
  // The block belongs to the memory that parent and child share.
  free(Opaque(malloc(10)));
  _exit(5);
}

void CloneLikeGo(int (*function)(void*)) {
  constexpr size_t kStack = 256 * 1024;
  char* stack = static_cast<char*>(malloc(kStack));
  fflush(nullptr);
  Wait("clone", clone(function, stack + kStack, CLONE_VM | CLONE_VFORK | SIGCHLD, nullptr));
  free(stack);
}

__attribute__((noinline)) void VforkAndExec() {
  fflush(nullptr);
  const pid_t pid = vfork();
  if (pid == 0) {
    execve(program, arguments, environ);
    _exit(97);
  }
  Wait("vfork and exec", pid);
}

__attribute__((noinline)) void VforkAndFail() {
  fflush(nullptr);
  const pid_t pid = vfork();
  if (pid == 0) {
    execve("/no/such/program", arguments, environ);
    _exit(96);
  }
  Wait("vfork and a failing exec", pid);
}

void* volatile passed = nullptr;

// Not allowed by POSIX, and yet done: the child allocates, the parent frees.
__attribute__((noinline)) void VforkAndAllocate() {
  fflush(nullptr);
  const pid_t pid = vfork();
  if (pid == 0) {
    passed = malloc(70);
    _exit(4);
  }
  Wait("vfork and malloc", pid);
  PROGRAM_CHECK(passed != nullptr);
  free(passed);
}

}  // namespace

int main() {
  pthread_t threads[2];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Churn, nullptr) == 0);
  for (int i = 0; i < 4; ++i) {
    VforkAndExec();
    KeepAfterVfork();
    VforkAndFail();
    KeepAfterVfork();
    VforkAndAllocate();
    KeepAfterVfork();
    CloneLikeGo(ExecOnOwnStack);
    CloneLikeGo(LeaveOnOwnStack);
    KeepAfterVfork();
  }
  stop = true;
  for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  ExpectSurvivors("KeepAfterVfork", 16, 16 * 45);
  ExpectProcesses(1 + 8);
  return 0;
}
