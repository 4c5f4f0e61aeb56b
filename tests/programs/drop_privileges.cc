// setgid and setuid: glibc has every thread do it by a signal and waits for all of them; then
// chroot, when root.
#include <grp.h>
#include <pthread.h>
#include <sys/stat.h>

#include <atomic>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::kSkip;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepPrivileged() { Opaque(malloc(57)); }
PROGRAM_KEEPER void KeepUnprivileged() { Opaque(malloc(58)); }

namespace {

std::atomic<bool> stop{false};

void* Churn(void*) {
  while (!stop.load()) {
    for (size_t i = 0; i < 100; ++i) free(Opaque(malloc(i)));
  }
  return nullptr;
}

}  // namespace

int main(int argc, char** argv) {
  const bool really = argc == 2 && strcmp(argv[1], "chroot") == 0;
  if (really && geteuid() != 0) return kSkip;
  pthread_t thread;
  PROGRAM_CHECK(pthread_create(&thread, nullptr, Churn, nullptr) == 0);
  for (int i = 0; i < 500; ++i) KeepPrivileged();
  ExpectSurvivors("KeepPrivileged", 500, 500 * 57);
  ExpectSurvivors("KeepUnprivileged", 5000, 5000 * 58);
  if (really) {
    PROGRAM_CHECK(mkdir("jail", 0755) == 0 || errno == EEXIST);
    if (chroot("jail") != 0 || chdir("/") != 0) return kSkip;
    const gid_t group = 65534;
    if (setgroups(1, &group) != 0 || setgid(65534) != 0 || setuid(65534) != 0) return kSkip;
    printf("uid %d\n", static_cast<int>(getuid()));
  } else {
    PROGRAM_CHECK(setgid(getgid()) == 0 && setuid(getuid()) == 0);
    PROGRAM_CHECK(setresuid(getuid(), geteuid(), geteuid()) == 0);
  }
  for (int i = 0; i < 5000; ++i) {
    KeepUnprivileged();
    for (size_t k = 0; k < 20; ++k) free(Opaque(malloc(k)));
  }
  stop = true;
  PROGRAM_CHECK(pthread_join(thread, nullptr) == 0);
  puts("done");
  return 0;
}
