// posix_spawn, system and popen: each child is traced, and its output and status arrive.
#include <spawn.h>
#include <sys/wait.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectProcesses;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

extern "C" char** environ;

PROGRAM_KEEPER void KeepAround() { Opaque(malloc(15)); }

int main() {
  char program[] = PROGRAM_DIR "/program_child";
  char count[] = "3";
  char status[] = "9";
  char* arguments[] = {program, count, status, nullptr};
  for (int i = 0; i < 5; ++i) {
    fflush(nullptr);
    posix_spawn_file_actions_t actions;
    PROGRAM_CHECK(posix_spawn_file_actions_init(&actions) == 0);
    PROGRAM_CHECK(posix_spawn_file_actions_addclose(&actions, 9) == 0);
    pid_t pid = 0;
    PROGRAM_CHECK(posix_spawn(&pid, program, &actions, nullptr, arguments, environ) == 0);
    PROGRAM_CHECK(posix_spawn_file_actions_destroy(&actions) == 0);
    KeepAround();
    int wait_status = 0;
    PROGRAM_CHECK(waitpid(pid, &wait_status, 0) == pid);
    printf("spawned: exited %d, status %d\n", WIFEXITED(wait_status), WEXITSTATUS(wait_status));
  }
  pid_t pid = 0;
  PROGRAM_CHECK(posix_spawn(&pid, "/no/such/program", nullptr, nullptr, arguments, environ) ==
                ENOENT);
  fflush(nullptr);
  const int system_status = system(PROGRAM_DIR "/program_child 2 8");
  printf("system: status %d\n", WEXITSTATUS(system_status));
  FILE* pipe = popen(PROGRAM_DIR "/program_child 1 7", "r");
  PROGRAM_CHECK(pipe != nullptr);
  char line[100] = "";
  PROGRAM_CHECK(fgets(line, sizeof line, pipe) != nullptr);
  printf("popen: %s", line);
  printf("popen: status %d\n", WEXITSTATUS(pclose(pipe)));
  ExpectSurvivors("KeepAround", 5, 5 * 15);
  ExpectProcesses(1 + 5 + 2 + 2);
  return 0;
}
