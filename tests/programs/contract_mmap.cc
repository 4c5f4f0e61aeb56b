// mmap, mmap64, munmap, mremap, brk and sbrk: parts unmapped, moved, refused, with errno as the
// kernel set it.
#include <stdint.h>
#include <sys/mman.h>

#include "tests/programs/program.h"

namespace {

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::kAny;
using ollamatrace::programs::Opaque;

constexpr size_t kPage = 64 * 1024;  // A multiple of every page size in use.
constexpr int kAnonymous = MAP_PRIVATE | MAP_ANONYMOUS;

char* Map(size_t size) {
  void* mapping = mmap(nullptr, size, PROT_READ | PROT_WRITE, kAnonymous, -1, 0);
  PROGRAM_CHECK(mapping != MAP_FAILED);
  return static_cast<char*>(mapping);
}

void Failures() {
  errno = 0;
  PROGRAM_CHECK(mmap(nullptr, 0, PROT_READ, kAnonymous, -1, 0) == MAP_FAILED && errno == EINVAL);
  errno = 0;
  PROGRAM_CHECK(mmap(nullptr, kPage, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED &&
                errno == EBADF);
  errno = 0;
  PROGRAM_CHECK(mmap64(nullptr, kPage, PROT_READ, MAP_PRIVATE, 999, 0) == MAP_FAILED &&
                errno == EBADF);
  errno = 0;
  PROGRAM_CHECK(mmap(nullptr, ~size_t{0} / 2, PROT_READ, kAnonymous, -1, 0) == MAP_FAILED &&
                errno == ENOMEM);
  char* mapping = Map(2 * kPage);
  errno = 0;
  PROGRAM_CHECK(munmap(mapping + 1, kPage) == -1 && errno == EINVAL);
  errno = 0;
  PROGRAM_CHECK(munmap(mapping, 0) == -1 && errno == EINVAL);
  errno = 0;
  PROGRAM_CHECK(mremap(mapping + 1, kPage, kPage, 0) == MAP_FAILED && errno == EINVAL);
  errno = 0;
  PROGRAM_CHECK(mremap(mapping, kPage, 0, 0) == MAP_FAILED && errno == EINVAL);
  mapping[0] = 1;
  mapping[kPage] = 2;
  errno = EDOM;
  PROGRAM_CHECK(munmap(mapping, 2 * kPage) == 0 && errno == EDOM);
  PROGRAM_CHECK(munmap(mapping, 2 * kPage) == 0);  // Nothing there any more: not an error.
  errno = 0;
  PROGRAM_CHECK(brk(reinterpret_cast<void*>(~uintptr_t{0} / 2)) == -1 && errno == ENOMEM);
  errno = 0;
  PROGRAM_CHECK(sbrk(INTPTR_MAX) == reinterpret_cast<void*>(-1) && errno == ENOMEM);
}

void Remap() {
  char* mapping = Map(2 * kPage);
  memset(mapping, 7, 2 * kPage);
  auto* grown = static_cast<char*>(mremap(mapping, 2 * kPage, 64 * kPage, MREMAP_MAYMOVE));
  PROGRAM_CHECK(grown != MAP_FAILED && grown[0] == 7 && grown[2 * kPage - 1] == 7 &&
                grown[2 * kPage] == 0);
  auto* shrunk = static_cast<char*>(mremap(grown, 64 * kPage, kPage, 0));
  PROGRAM_CHECK(shrunk == grown);
  // The variadic fifth argument goes through.
  char* target = Map(kPage);
  PROGRAM_CHECK(mremap(shrunk, kPage, kPage, MREMAP_MAYMOVE | MREMAP_FIXED, target) == target);
  PROGRAM_CHECK(target[0] == 7);
  PROGRAM_CHECK(munmap(target, kPage) == 0);
}

void ProgramBreak() {
  char* const start = static_cast<char*>(sbrk(0));
  PROGRAM_CHECK(sbrk(4096) == start);
  start[0] = 1;
  PROGRAM_CHECK(sbrk(0) == start + 4096);
  PROGRAM_CHECK(brk(start + 8192) == 0 && sbrk(0) == start + 8192);
  start[8191] = 1;
  PROGRAM_CHECK(sbrk(-8192) == start + 8192 && sbrk(0) == start);
}

void FileMapping() {
  const int fd = open("mapped", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  PROGRAM_CHECK(fd >= 0 && ftruncate(fd, 2 * kPage) == 0);
  auto* shared =
      static_cast<char*>(mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
  auto* second =
      static_cast<char*>(mmap64(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, fd, kPage));
  PROGRAM_CHECK(shared != MAP_FAILED && second != MAP_FAILED);
  memcpy(shared, "first", 5);
  memcpy(second, "second", 6);
  PROGRAM_CHECK(munmap(shared, kPage) == 0 && munmap(second, kPage) == 0 && close(fd) == 0);
}

}  // namespace

PROGRAM_KEEPER void KeepMapping() { Opaque(Map(5 * kPage)); }
PROGRAM_KEEPER void KeepEnds() {
  char* mapping = Map(16 * kPage);
  PROGRAM_CHECK(munmap(mapping + 4 * kPage, 8 * kPage) == 0);
  mapping[0] = 1;
  mapping[15 * kPage] = 1;
}
PROGRAM_KEEPER void KeepReplaced() {
  char* mapping = Map(8 * kPage);
  PROGRAM_CHECK(mmap(mapping, 8 * kPage, PROT_READ, kAnonymous | MAP_FIXED, -1, 0) == mapping);
}
PROGRAM_KEEPER void KeepUnmappedTogether() {
  // One munmap may end several mappings.
  char* mapping = Map(4 * kPage);
  PROGRAM_CHECK(mmap(mapping, kPage, PROT_READ, kAnonymous | MAP_FIXED, -1, 0) == mapping);
  PROGRAM_CHECK(mmap(mapping + 2 * kPage, kPage, PROT_READ, kAnonymous | MAP_FIXED, -1, 0) ==
                mapping + 2 * kPage);
  PROGRAM_CHECK(munmap(mapping, 4 * kPage) == 0);
}

int main() {
  ProgramBreak();
  Failures();
  Remap();
  FileMapping();
  KeepMapping();
  KeepEnds();
  KeepReplaced();
  KeepUnmappedTogether();
  ExpectSurvivors("KeepMapping", 1, 5 * kPage);
  ExpectSurvivors("KeepEnds", kAny, 8 * kPage);
  ExpectSurvivors("KeepReplaced", 1, 8 * kPage);
  ExpectSurvivors("KeepUnmappedTogether", 0, 0);
  puts("done");
  return 0;
}
