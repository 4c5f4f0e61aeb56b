// Signals arrive where they did: dispositions, masks and pending signals are the target's own, no
// helper thread takes one.
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepAmongSignals() { Opaque(malloc(17)); }

namespace {

volatile sig_atomic_t children = 0;

void OnChild(int) { children = children + 1; }

void PrintDispositions() {
  for (int signal_number = 1; signal_number < 65; ++signal_number) {
    struct sigaction action = {};
    if (sigaction(signal_number, nullptr, &action) != 0) continue;
    if (action.sa_handler == SIG_DFL) continue;
    printf("signal %d: %s\n", signal_number, action.sa_handler == SIG_IGN ? "ignored" : "handled");
  }
}

void PrintMask(const char* where) {
  sigset_t mask;
  PROGRAM_CHECK(pthread_sigmask(SIG_BLOCK, nullptr, &mask) == 0);
  printf("%s blocks:", where);
  for (int signal_number = 1; signal_number < 65; ++signal_number) {
    if (sigismember(&mask, signal_number) == 1) printf(" %d", signal_number);
  }
  printf("\n");
}

void* PrintThreadMask(void*) {
  free(Opaque(malloc(100)));
  PrintMask("a thread");
  return nullptr;
}

}  // namespace

int main() {
  PrintDispositions();
  PrintMask("main");
  for (int i = 0; i < 1000; ++i) KeepAmongSignals();
  PrintMask("main after allocating");
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, PrintThreadMask, nullptr) == 0);
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);

  // All threads of the target block these: a helper that did not would take them, and end the
  // process.
  sigset_t blocked;
  sigemptyset(&blocked);
  sigaddset(&blocked, SIGTERM);
  sigaddset(&blocked, SIGINT);
  sigaddset(&blocked, SIGUSR1);
  sigaddset(&blocked, SIGRTMIN + 3);
  PROGRAM_CHECK(pthread_sigmask(SIG_BLOCK, &blocked, nullptr) == 0);
  const int numbers[] = {SIGTERM, SIGINT, SIGUSR1, SIGRTMIN + 3};
  for (const int signal_number : numbers) {
    PROGRAM_CHECK(kill(getpid(), signal_number) == 0);
    free(Opaque(malloc(5000)));
    sigset_t pending;
    PROGRAM_CHECK(sigpending(&pending) == 0 && sigismember(&pending, signal_number) == 1);
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, signal_number);
    const timespec patience = {10, 0};
    PROGRAM_CHECK(sigtimedwait(&one, nullptr, &patience) == signal_number);
  }

  struct sigaction action = {};
  action.sa_handler = OnChild;
  action.sa_flags = SA_RESTART;
  PROGRAM_CHECK(sigaction(SIGCHLD, &action, nullptr) == 0);
  fflush(nullptr);
  for (int i = 0; i < 5; ++i) {
    const pid_t pid = fork();
    PROGRAM_CHECK(pid >= 0);
    if (pid == 0) _exit(0);
    PROGRAM_CHECK(waitpid(pid, nullptr, 0) == pid);
  }
  printf("SIGCHLD came %d times\n", static_cast<int>(children));
  PROGRAM_CHECK(waitpid(-1, nullptr, WNOHANG) == -1 &&
                errno == ECHILD);  // No child that is not ours.
  ExpectSurvivors("KeepAmongSignals", 1000, 17000);
  PROGRAM_CHECK(pthread_sigmask(SIG_UNBLOCK, &blocked, nullptr) == 0);
  fflush(nullptr);
  // The default disposition: the process ends by the signal.
  kill(getpid(), SIGTERM);
  for (;;) pause();
}
