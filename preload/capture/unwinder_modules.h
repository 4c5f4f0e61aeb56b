#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_MODULES_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_MODULES_H_

// The modules that a walk may meet: where their code and their unwind tables are. Readers take no
// lock (a sequence count tells them when to look again); RegisterModule and its like, declared in
// unwinder.h, are the writers.

#include <atomic>
#include <cstdint>

#include "preload/capture/cfi_section.h"

namespace ollamatrace::capture {

struct ModuleTables {
  uintptr_t code_begin = 0;  // executable segments, first to last
  uintptr_t code_end = 0;
  CfiSection cfi;  // empty when there is none
  // What only the module's file tells (AddToModule): .debug_frame, null when there is none, whose
  // addresses are those in memory less the load bias.
  const DebugFrame* debug_frame = nullptr;
  uintptr_t bias = 0;
  bool known_go = false;  // frame pointers lead from C to the goroutine's stack
  bool hidden = false;
  bool code_readable = false;  // all of [code_begin, code_end), as long as the module is loaded
};

enum class ModuleLookup {
  kFound,
  kUnknown,  // in no module
  kBusy,     // the list is being changed: the answer is not worth remembering
};

// The module whose code holds `pc`: a registered one (if _dl_find_object does not deny it), else
// one that _dl_find_object knows.
ModuleLookup FindModule(uintptr_t pc, ModuleTables* tables);

// Whether the dynamic linker has an object that begins at `begin`. Asked without a lock, so in a
// fork child, too. Where it cannot be asked: whether something can be read there.
bool IsObjectAt(uintptr_t begin);

// A number that changes whenever the list does; never 0, and below 2^16. What was learnt from the
// list under another number is void.
extern std::atomic<uint32_t> g_module_generation;
inline uint32_t ModuleGeneration() { return g_module_generation.load(std::memory_order_acquire); }

// Finds _dl_find_object (glibc 2.35). At a moment when dlsym is safe.
void ResolveDlFindObject();

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_MODULES_H_
