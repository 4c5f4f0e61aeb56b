#ifndef OLLAMATRACE_TESTS_DIFFERENTIAL_COUNTERS_H_
#define OLLAMATRACE_TESTS_DIFFERENTIAL_COUNTERS_H_

// What checker.cc counts, in a file that differential_test.py reads: 64-bit words in this order.

#include <atomic>
#include <cstdint>

namespace ollamatrace::differential {

struct Counters {
  std::atomic<uint64_t> stacks;
  std::atomic<uint64_t> frames;      // of ours
  std::atomic<uint64_t> recognised;  // stacks that were not walked: their fingerprint was known
  // Stacks that are not what a walk without memory finds at the same moment.
  std::atomic<uint64_t> remembered_wrongly;
  std::atomic<uint64_t> equal;  // to libunwind's

  // Stacks that differ, by what is known of the outermost frame in which they agree.
  std::atomic<uint64_t> go;           // it is Go's: no CFI; libunwind guesses or ends
  std::atomic<uint64_t> jit;          // it is in no module: no CFI
  std::atomic<uint64_t> no_cfi;       // it is in a module, which has no CFI for it
  std::atomic<uint64_t> debug_frame;  // .debug_frame alone describes it; libunwind does not read it
  std::atomic<uint64_t> gave_up;   // it has CFI, and libunwind ends; ours goes on to a frame whose
                                   // CFI says that it is the outermost
  std::atomic<uint64_t> not_code;  // libunwind goes on to something that is no code
  std::atomic<uint64_t> not_started;  // libunwind does not come to the hook's caller
  std::atomic<uint64_t> marks;        // the same addresses; libunwind takes an interrupted one for
                                      // a return address, or a return address for interrupted
  std::atomic<uint64_t> unexplained;
};

// In the same order, as differential_test.py prints them.
inline constexpr const char* kCounterNames[] = {
    "stacks",   "frames",      "by fingerprint", "remembered wrongly", "equal",
    "go",       "jit",         "no CFI",         "debug_frame",        "gave up",
    "not code", "not started", "marks",          "unexplained"};
static_assert(sizeof kCounterNames / sizeof kCounterNames[0] == sizeof(Counters) / 8);

}  // namespace ollamatrace::differential

#endif  // OLLAMATRACE_TESTS_DIFFERENTIAL_COUNTERS_H_
