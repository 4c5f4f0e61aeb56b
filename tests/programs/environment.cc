// What a process can see of itself is as it was: environment, arguments, descriptors, limits,
// names, scheduling.
#include <dirent.h>
#include <link.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "tests/programs/program.h"

extern "C" char** environ;

namespace {

bool Ours(const char* entry) {
  return strncmp(entry, "LD_PRELOAD=", 11) == 0 || strncmp(entry, "OLLAMATRACE_", 12) == 0 ||
         strncmp(entry, "CUDA_INJECTION64_PATH=", 22) == 0;
}

}  // namespace

int main(int argc, char** argv) {
  for (int i = 1; i < argc; ++i) printf("argument %s\n", argv[i]);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!Ours(*entry)) printf("%s\n", *entry);
  }
  printf("invoked as %s\n", program_invocation_short_name);
  char directory[4096];
  printf("in %s\n", getcwd(directory, sizeof directory));
  const mode_t mask = umask(0);
  umask(mask);
  printf("umask %o\n", mask);
  for (int fd = 0; fd < 64; ++fd) {
    if (fcntl(fd, F_GETFD) >= 0) printf("descriptor %d is open\n", fd);
  }
  const int resources[] = {RLIMIT_NOFILE, RLIMIT_AS, RLIMIT_FSIZE, RLIMIT_STACK, RLIMIT_CORE};
  for (const int resource : resources) {
    rlimit limit = {};
    getrlimit(static_cast<__rlimit_resource_t>(resource), &limit);
    printf("limit %d: %llu %llu\n", resource, static_cast<unsigned long long>(limit.rlim_cur),
           static_cast<unsigned long long>(limit.rlim_max));
  }
  char name[32] = "";
  prctl(PR_GET_NAME, name, 0, 0, 0);
  printf("thread name %s, dumpable %d, policy %d, nice %d\n", name,
         prctl(PR_GET_DUMPABLE, 0, 0, 0, 0), sched_getscheduler(0), getpriority(PRIO_PROCESS, 0));
  printf("errno %d\n", errno);
  // Nothing but the library itself came into the global scope.
  int objects = 0;
  dl_iterate_phdr(
      [](dl_phdr_info* info, size_t, void* count) {
        if (strstr(info->dlpi_name, "ollamatrace") == nullptr &&
            strstr(info->dlpi_name, "libunwind") == nullptr &&
            strstr(info->dlpi_name, "liblzma") == nullptr) {
          ++*static_cast<int*>(count);
        }
        return 0;
      },
      &objects);
  printf("%d objects\n", objects);
  fflush(nullptr);
  return system("env | grep -v -e ^LD_PRELOAD= -e ^OLLAMATRACE_ -e ^CUDA_INJECTION64_PATH= | sort");
}
