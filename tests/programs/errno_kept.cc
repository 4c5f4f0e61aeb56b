// free keeps errno, and no successful call of the family changes it, in the first call of a thread
// as in the millionth.
#include <malloc.h>
#include <pthread.h>
#include <sys/mman.h>

#include "tests/programs/program.h"

using ollamatrace::programs::Opaque;

namespace {

void* Work(void*) {
  errno = EDOM;
  for (int round = 0; round < 3000; ++round) {
    const size_t size = round % 100 == 99 ? 400000 : static_cast<size_t>(round % 700);
    void* block = Opaque(malloc(size));
    PROGRAM_CHECK(errno == EDOM);
    block = Opaque(realloc(block, size + 10));
    PROGRAM_CHECK(errno == EDOM);
    void* other = Opaque(calloc(3, size));
    PROGRAM_CHECK(errno == EDOM);
    free(block);
    PROGRAM_CHECK(errno == EDOM);
    free(other);
    PROGRAM_CHECK(errno == EDOM);
    free(nullptr);
    PROGRAM_CHECK(errno == EDOM);
  }
  void* mapping = mmap(nullptr, 65536, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  PROGRAM_CHECK(errno == EDOM && mapping != MAP_FAILED);
  PROGRAM_CHECK(munmap(mapping, 65536) == 0 && errno == EDOM);
  return nullptr;
}

}  // namespace

int main() {
  Work(nullptr);
  for (int i = 0; i < 8; ++i) {
    pthread_t thread;
    PROGRAM_CHECK(pthread_create(&thread, nullptr, Work, nullptr) == 0);
    PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  }
  puts("done");
  return 0;
}
