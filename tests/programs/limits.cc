// Resource limits, set while running or (argv[2] is "exec") before the start: the target runs on,
// the tracer loses what it must.
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectLossy;
using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

PROGRAM_KEEPER void KeepUnderLimits(size_t i) { Opaque(malloc(20 + i % 3000)); }

namespace {

// `descriptors`: none is left with 3; the dynamic linker needs a fourth.
void Limit(const char* what, rlim_t descriptors) {
  rlimit limit = {};
  if (strcmp(what, "nofile") == 0) {
    limit.rlim_cur = limit.rlim_max = descriptors;
    PROGRAM_CHECK(setrlimit(RLIMIT_NOFILE, &limit) == 0);
  } else if (strcmp(what, "fsize") == 0) {
    // Whoever writes past it gets SIGXFSZ, which ends the process.
    limit.rlim_cur = limit.rlim_max = 64 * 1024;
    PROGRAM_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  } else if (strcmp(what, "fsize0") == 0) {
    PROGRAM_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
  } else if (strcmp(what, "as") == 0) {
    limit.rlim_cur = limit.rlim_max = size_t{600} << 20;
    PROGRAM_CHECK(setrlimit(RLIMIT_AS, &limit) == 0);
  } else if (strcmp(what, "memlock") == 0) {
    PROGRAM_CHECK(setrlimit(RLIMIT_MEMLOCK, &limit) == 0);
    PROGRAM_CHECK(mlockall(MCL_FUTURE) == 0 || errno == EPERM || errno == ENOMEM);
  } else if (strcmp(what, "nproc") == 0) {
    limit.rlim_cur = limit.rlim_max = 1;
    PROGRAM_CHECK(setrlimit(RLIMIT_NPROC, &limit) == 0);
  } else {
    PROGRAM_CHECK(false);
  }
}

}  // namespace

int main(int argc, char** argv) {
  PROGRAM_CHECK(argc >= 2);
  const char* what = argv[1];
  if (argc == 3) {
    // EXPECT_FILE can still be written: the limits on files come first of all after the exec.
    ExpectLossy("the limits hold for the tracer, too");
    Limit(what, 4);
    char program[] = PROGRAM_DIR "/program_limits";
    char again[] = "again";
    char* arguments[] = {program, argv[1], again, again, nullptr};
    execv(program, arguments);
    PROGRAM_CHECK(false);
  }
  if (argc == 2) {
    ExpectLossy("the limits hold for the tracer, too");
    ExpectSurvivors("KeepUnderLimits", 100000, ollamatrace::programs::kAny);
    Limit(what, 3);
  }
  for (size_t i = 0; i < 100000; ++i) {
    KeepUnderLimits(i);
    free(Opaque(malloc(i % 777)));
  }
  puts("done");
  return 0;
}
