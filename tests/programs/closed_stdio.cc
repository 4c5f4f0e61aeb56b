// Started without stdin, stdout and stderr: the target's next files are 0, 1 and 2, and nothing of
// the tracer's is in them.
#include <pthread.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepWithoutStdio() { Opaque(malloc(43)); }

namespace {

void* Work(void*) {
  for (size_t i = 0; i < 20000; ++i) free(Opaque(malloc(i % 999)));
  return nullptr;
}

}  // namespace

int main() {
  // The files say which descriptors they got: the lowest free ones, as without the tracer.
  const char* const names[] = {"first", "second", "third", "fourth"};
  int fds[4];
  for (int i = 0; i < 4; ++i) {
    fds[i] = open(names[i], O_RDWR | O_CREAT | O_TRUNC, 0600);
    PROGRAM_CHECK(fds[i] >= 0);
  }
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
  for (int i = 0; i < 100; ++i) KeepWithoutStdio();
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  for (int i = 0; i < 3; ++i) {
    char text[64];
    const int size = snprintf(text, sizeof text, "%s has descriptor %d\n", names[i], fds[i]);
    PROGRAM_CHECK(write(fds[i], text, static_cast<size_t>(size)) == size);
  }
  puts("this goes to whatever descriptor 1 is");
  fflush(nullptr);
  ExpectSurvivors("KeepWithoutStdio", 100, 4300);
  return 0;
}
