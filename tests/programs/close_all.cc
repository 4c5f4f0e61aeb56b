// The target closes every descriptor it does not know (as daemons do), opens its own, and finds
// only its own data there.
#include <pthread.h>
#include <sys/syscall.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepBeforeClosing() { Opaque(malloc(81)); }
PROGRAM_KEEPER void KeepAfterClosing() { Opaque(malloc(82)); }

namespace {

void* Work(void*) {
  for (size_t i = 0; i < 50000; ++i) free(Opaque(malloc(i % 999)));
  return nullptr;
}

void RunThread() {
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
}

}  // namespace

int main() {
  for (int i = 0; i < 1000; ++i) KeepBeforeClosing();
  RunThread();
  // The kernel call, not the library's function: nobody can interpose that.
  if (syscall(SYS_close_range, 3, ~0u, 0) != 0) {
    for (int fd = 3; fd < 4096; ++fd) syscall(SYS_close, fd);
  }
  int fds[20];
  for (int i = 0; i < 20; ++i) {
    char name[16];
    snprintf(name, sizeof name, "own%02d", i);
    fds[i] = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
    PROGRAM_CHECK(fds[i] == 3 + i);
    PROGRAM_CHECK(write(fds[i], name, 5) == 5);
  }
  for (int i = 0; i < 1000; ++i) KeepAfterClosing();
  RunThread();
  for (int round = 0; round < 20; ++round) RunThread();
  for (int fd : fds) {
    PROGRAM_CHECK(lseek(fd, 0, SEEK_CUR) == 5);
    PROGRAM_CHECK(lseek(fd, 0, SEEK_END) == 5);
    PROGRAM_CHECK(fcntl(fd, F_GETFD) == 0);
  }
  ExpectSurvivors("KeepBeforeClosing", 1000, 81000);
  ExpectSurvivors("KeepAfterClosing", 1000, 82000);
  puts("done");
  return 0;
}
