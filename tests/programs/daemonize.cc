// A daemon: forks twice, closes everything, moves to /, and allocates there.
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectProcesses;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepInDaemon() { Opaque(malloc(63)); }

namespace {

void Daemon() {
  PROGRAM_CHECK(setsid() > 0);
  if (fork() != 0) _exit(0);
  umask(0);
  const int report = open("daemon_report", O_WRONLY | O_CREAT | O_TRUNC, 0600);
  PROGRAM_CHECK(report >= 0 && dup2(report, 0) == 0);
  PROGRAM_CHECK(chdir("/") == 0);
  for (int fd = 1; fd < 1024; ++fd) close(fd);
  for (int i = 0; i < 700; ++i) KeepInDaemon();
  for (size_t i = 0; i < 50000; ++i) free(Opaque(malloc(i % 500)));
  ExpectSurvivors("KeepInDaemon", 700, 700 * 63);
  PROGRAM_CHECK(write(0, "the daemon ran\n", 15) == 15);
  _exit(0);
}

}  // namespace

int main() {
  // The harness can only compare when the daemon is done: its orphan comes back to here.
  PROGRAM_CHECK(prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == 0);
  const pid_t pid = fork();
  PROGRAM_CHECK(pid >= 0);
  if (pid == 0) Daemon();
  int ended = 0;
  int status = 0;
  for (;;) {
    const pid_t waited = waitpid(-1, &status, 0);
    if (waited < 0 && errno == ECHILD) break;
    if (waited < 0 && errno == EINTR) continue;
    PROGRAM_CHECK(waited > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ++ended;
  }
  printf("%d children ended\n", ended);
  ExpectProcesses(2);  // A process that neither allocates nor frees may leave none.
  return 0;
}
