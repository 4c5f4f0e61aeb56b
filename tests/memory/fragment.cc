// Fragments its heap in one of three shapes, then does as it is told on stdin, one line each:
//   free   frees the survivors
//   trim   malloc_trim(0)
// and answers each, and first of all that it is ready, with its anonymous memory in bytes
// (smaps_rollup).
//
//   fragment comb|pages|top [thread]
// comb: blocks of 1000 bytes, of which every 64th survives
// pages: on each page a survivor of 64 bytes
// top: all is freed but one block at the end
// With "thread" a second thread does it, in an arena of its own.

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

constexpr size_t kTotal = 40u << 20;
constexpr size_t kMaxBlocks = kTotal / 512;

void* g_survivors[kMaxBlocks];
size_t g_survivor_count = 0;
void* g_garbage[kMaxBlocks];
size_t g_garbage_count = 0;

// By name the only ones that survive.
__attribute__((noinline)) void KeepSurvivor(size_t size) {
  void* const block = malloc(size);
  memset(block, 1, size);
  g_survivors[g_survivor_count++] = block;
}

__attribute__((noinline)) void MakeGarbage(size_t size) {
  void* const block = malloc(size);
  memset(block, 2, size);
  g_garbage[g_garbage_count++] = block;
}

void Fragment(const char* shape) {
  const bool comb = strcmp(shape, "comb") == 0;
  const bool pages = strcmp(shape, "pages") == 0;
  for (size_t made = 0, i = 0; made < kTotal; ++i) {
    if (pages) {
      KeepSurvivor(64);
      MakeGarbage(4096 - 80 - 16);
      made += 4096;
    } else if (comb && i % 64 == 0) {
      KeepSurvivor(1000);
      made += 1008;
    } else {
      MakeGarbage(1000);
      made += 1008;
    }
  }
  if (!comb && !pages) KeepSurvivor(3000);
  for (size_t i = 0; i < g_garbage_count; ++i) free(g_garbage[i]);
}

int g_done[2];  // a pipe

void* FragmentInThread(void* shape) {
  Fragment(static_cast<const char*>(shape));
  if (write(g_done[1], "", 1) != 1) _exit(1);
  while (true) pause();
}

// Without stdio's buffers and without malloc.
void Answer() {
  static char text[4096];
  const int fd = open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC);
  const ssize_t size = read(fd, text, sizeof text - 1);
  close(fd);
  text[size > 0 ? size : 0] = '\0';
  const char* const line = strstr(text, "\nAnonymous:");
  const unsigned long bytes = line == nullptr ? 0 : strtoul(line + 11, nullptr, 10) * 1024;
  char answer[32];
  const int length = snprintf(answer, sizeof answer, "%lu\n", bytes);
  if (write(1, answer, static_cast<size_t>(length)) != length) _exit(1);
}

bool NextOrder(char* order, size_t room) {
  size_t size = 0;
  while (size + 1 < room && read(0, order + size, 1) == 1) {
    if (order[size] == '\n') {
      order[size] = '\0';
      return true;
    }
    ++size;
  }
  return false;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 2;
  if (argc > 2) {
    pthread_t thread;
    char done;
    if (pipe(g_done) != 0 || pthread_create(&thread, nullptr, FragmentInThread, argv[1]) != 0 ||
        read(g_done[0], &done, 1) != 1) {
      return 1;
    }
  } else {
    Fragment(argv[1]);
  }
  Answer();
  for (char order[16]; NextOrder(order, sizeof order);) {
    if (strcmp(order, "free") == 0) {
      for (size_t i = 0; i < g_survivor_count; ++i) free(g_survivors[i]);
    } else if (strcmp(order, "trim") == 0) {
      malloc_trim(0);
    }
    Answer();
  }
  return 0;
}
