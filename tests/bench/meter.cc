// Runs one command and writes what it took: nothing of the script that measures is in the figures.
//
//   bench_meter RESULT [NAME=VALUE...] -- COMMAND [ARGUMENT...]
//
// The command gets this process's environment and the variables. RESULT becomes one line:
// "status S wall_ns W cpu_ns C max_rss_bytes M": from before vfork to the end, with the CPU and the
// greatest resident size of all its processes (getrusage(2), RUSAGE_CHILDREN); status 128 + N for a
// death by signal N. The exit code is 0 when the command was started, whatever it did.
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace {

int64_t Now() {
  timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec;
}

int64_t Nanoseconds(const timeval& time) {
  return int64_t{time.tv_sec} * 1'000'000'000 + int64_t{time.tv_usec} * 1000;
}

}  // namespace

int main(int argc, char** argv) {
  int command = 2;
  for (; command < argc && strcmp(argv[command], "--") != 0; ++command) {
    if (strchr(argv[command], '=') == nullptr || putenv(argv[command]) != 0) {
      fprintf(stderr, "bench_meter: '%s' is not NAME=VALUE\n", argv[command]);
      return 2;
    }
  }
  if (++command >= argc) {
    fprintf(stderr, "usage: bench_meter RESULT [NAME=VALUE...] -- COMMAND [ARGUMENT...]\n");
    return 2;
  }
  const int64_t begin = Now();
  pid_t child = 0;
  const int error = posix_spawnp(&child, argv[command], nullptr, nullptr, argv + command, environ);
  if (error != 0) {
    fprintf(stderr, "bench_meter: %s: %s\n", argv[command], strerror(error));
    return 1;
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0) {
  }
  const int64_t wall = Now() - begin;
  rusage usage;
  getrusage(RUSAGE_CHILDREN, &usage);
  FILE* const result = fopen(argv[1], "w");
  if (result == nullptr) {
    perror(argv[1]);
    return 1;
  }
  fprintf(result, "status %d wall_ns %lld cpu_ns %lld max_rss_bytes %lld\n",
          WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status),
          static_cast<long long>(wall),
          static_cast<long long>(Nanoseconds(usage.ru_utime) + Nanoseconds(usage.ru_stime)),
          static_cast<long long>(usage.ru_maxrss) * 1024);
  return fclose(result) == 0 ? 0 : 1;
}
