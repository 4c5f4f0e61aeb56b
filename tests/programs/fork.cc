// A parent with busy threads forks; parent, children and grandchildren go on allocating, each with
// a trace of its own.
#include <pthread.h>
#include <sys/wait.h>

#include <atomic>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectProcesses;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInChild() { Opaque(malloc(130)); }
PROGRAM_KEEPER void KeepInParent() { Opaque(malloc(140)); }

namespace {

std::atomic<bool> stop{false};
int at_fork_calls = 0;

void* Churn(void*) {
  while (!stop.load()) {
    void* blocks[50];
    for (size_t i = 0; i < 50; ++i) blocks[i] = Opaque(malloc(i * 13));
    for (void* block : blocks) free(block);
  }
  return nullptr;
}

void AtFork() {
  free(Opaque(malloc(77)));
  ++at_fork_calls;
}

void* ChildThread(void*) {
  for (int i = 0; i < 10; ++i) KeepInChild();
  return nullptr;
}

// Allocates, frees what the parent had allocated, starts a thread; leaves with `status`.
[[noreturn]] void Child(void* inherited, bool fork_again, int status) {
  free(inherited);
  for (int i = 0; i < 20; ++i) KeepInChild();
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, ChildThread, nullptr) == 0);
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  ExpectSurvivors("KeepInChild", 30, 30 * 130);
  ExpectSurvivors("KeepInParent", 0, 0);
  if (fork_again) {
    const pid_t pid = fork();
    PROGRAM_CHECK(pid >= 0);
    if (pid == 0) Child(Opaque(malloc(5)), false, 3);
    int wait_status = 0;
    PROGRAM_CHECK(waitpid(pid, &wait_status, 0) == pid && WIFEXITED(wait_status) &&
                  WEXITSTATUS(wait_status) == 3);
  }
  if (status % 2 == 0) exit(status);
  _exit(status);
}

}  // namespace

int main() {
  constexpr int kChildren = 12;
  PROGRAM_CHECK(pthread_atfork(AtFork, AtFork, AtFork) == 0);
  pthread_t threads[3];
  for (pthread_t& thread : threads)
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Churn, nullptr) == 0);
  for (int i = 0; i < kChildren; ++i) {
    void* inherited = Opaque(malloc(999));
    fflush(nullptr);
    const pid_t pid = fork();
    PROGRAM_CHECK(pid >= 0);
    if (pid == 0) Child(inherited, i % 4 == 0, i);
    KeepInParent();
    free(inherited);
    int wait_status = 0;
    PROGRAM_CHECK(waitpid(pid, &wait_status, 0) == pid);
    printf("child: exited %d, status %d\n", WIFEXITED(wait_status), WEXITSTATUS(wait_status));
  }
  stop = true;
  for (pthread_t thread : threads) PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  PROGRAM_CHECK(at_fork_calls == 2 * kChildren);
  ExpectSurvivors("KeepInParent", kChildren, kChildren * 140);
  ExpectSurvivors("KeepInChild", 0, 0);
  ExpectProcesses(1 + kChildren + kChildren / 4);
  puts("done");
  return 0;
}
