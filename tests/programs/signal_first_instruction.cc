// A handler allocates that has interrupted a function at its very first instruction: the frame is
// named after that function, not after the one before it.
#include <signal.h>
#include <ucontext.h>

#include "tests/programs/program.h"

using ollamatrace::programs::ExpectSurvivors;
using ollamatrace::programs::Opaque;

// Two functions without a byte between them; the second one traps at once.
extern "C" void FunctionBefore();
extern "C" void TrapsAtOnce();
#if defined(__x86_64__)
constexpr int kTrapBytes = 2;
#define TRAP "ud2"
#else
constexpr int kTrapBytes = 4;
#define TRAP "udf #0"
#endif
asm(R"(
  .text
  .globl FunctionBefore, TrapsAtOnce
  .type FunctionBefore, @function
  .type TrapsAtOnce, @function
  .balign 16
FunctionBefore:
  .cfi_startproc
  ret
  .cfi_endproc
  .size FunctionBefore, .-FunctionBefore
TrapsAtOnce:
  .cfi_startproc
  )" TRAP R"(
  ret
  .cfi_endproc
  .size TrapsAtOnce, .-TrapsAtOnce
)");

PROGRAM_KEEPER void CallsTheTrap() {
  TrapsAtOnce();
  asm volatile("");
}

namespace {

void Handler(int, siginfo_t*, void* context) {
  Opaque(malloc(333));
  auto& machine = static_cast<ucontext_t*>(context)->uc_mcontext;
#if defined(__x86_64__)
  machine.gregs[REG_RIP] += kTrapBytes;
#else
  machine.pc += kTrapBytes;
#endif
}

}  // namespace

int main() {
  struct sigaction action = {};
  action.sa_sigaction = Handler;
  action.sa_flags = SA_SIGINFO;
  PROGRAM_CHECK(sigaction(SIGILL, &action, nullptr) == 0);
  FunctionBefore();
  for (int i = 0; i < 3; ++i) CallsTheTrap();
  ExpectSurvivors("TrapsAtOnce", 3, 3 * 333);
  ExpectSurvivors("CallsTheTrap", 3, 3 * 333);
  ExpectSurvivors("FunctionBefore", 0, 0);
  puts("done");
  return 0;
}
