// The child of a vfork is the first to allocate much: whatever the library starts or notes then
// must serve the parent, which goes on when the child is gone.
#include <pthread.h>
#include <sys/wait.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepAfterChild() { Opaque(malloc(61)); }

namespace {

void Churn(int count) {
  for (int i = 0; i < count; ++i) free(Opaque(malloc(static_cast<size_t>(i % 100))));
}

__attribute__((noinline)) void ChurnInChild() {
  const pid_t pid = vfork();
  if (pid == 0) {
    Churn(2000);
    _exit(0);
  }
  PROGRAM_CHECK(pid > 0);
  int status = 0;
  PROGRAM_CHECK(waitpid(pid, &status, 0) == pid);
  PROGRAM_CHECK(status == 0);
}

void* VforkFirst(void*) {
  ChurnInChild();
  KeepAfterChild();
  return nullptr;
}

}  // namespace

int main() {
  ChurnInChild();
  Churn(100000);
  KeepAfterChild();
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, VforkFirst, nullptr) == 0);
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  ExpectSurvivors("KeepAfterChild", 2, 2 * 61);
  puts("done");
  return 0;
}
