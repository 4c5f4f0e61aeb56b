// Allocations before the tracer's constructor and after its destructor: atexit handlers, static
// destructors, a linked library.
#include <memory>
#include <string>
#include <vector>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

extern "C" void* EarlyBlock();

PROGRAM_KEEPER void KeepAtExit() { Opaque(malloc(60)); }
PROGRAM_KEEPER void KeepInDestructor() { Opaque(malloc(70)); }

namespace {

struct Static {
  Static() : strings(100, std::string(100, 'x')) {}
  ~Static() {
    strings.assign(50, std::string(300, 'y'));
    KeepInDestructor();
    ExpectSurvivors("KeepInDestructor", 1, 70);
  }
  std::vector<std::string> strings;
};

Static statics;

void AtExit() {
  KeepAtExit();
  free(Opaque(malloc(1000)));
  ExpectSurvivors("KeepAtExit", 1, 60);
}

}  // namespace

int main() {
  PROGRAM_CHECK(EarlyBlock() != nullptr);
  PROGRAM_CHECK(atexit(AtExit) == 0);
  PROGRAM_CHECK(statics.strings.size() == 100);
  puts("done");
  return 0;
}
