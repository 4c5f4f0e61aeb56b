#ifndef OLLAMATRACE_PRELOAD_CAPTURE_MODULES_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_MODULES_H_

// The modules (executable, shared libraries, vdso) of the process: noticed when they come and go,
// recorded in the trace with their build-id, and told to the unwinder.

#include <atomic>
#include <cstddef>
#include <cstdint>

#include "formats/trace_format.h"

namespace ollamatrace {

// Modules beyond these limits are not told apart: addresses in them are in no module.
inline constexpr int kMaxModules = 2048;  // at a time
inline constexpr uint32_t kMaxModuleIds = 1u << 16;

// Takes an encoded record for the trace; it is valid during the call.
using DefineFunction = void (*)(const uint8_t* record, size_t size);

// Starts with an empty list. Called once, before anything else here. `files_wanted` is called when
// there is something to do for ReadModuleFiles.
void InitModules(DefineFunction define, void (*files_wanted)());
// In a fork child, instead: the parent's modules are defined in the child's trace, under their ids.
// The dynamic linker is not asked, as another thread of the parent may have held its lock.
void RedefineModules();

// Compares the list with the dynamic linker's and takes over what changed: a new module gets a
// Module record, a vanished one a ModuleUnload record, and the unwinder is told. Thread-safe. Calls
// dl_iterate_phdr: the caller holds no lock of ours. Cheap when nothing changed.
void RefreshModules();

// Reads the files of modules that came since, for what their loaded segments do not tell the
// unwinder (module_file.h). Opens files: when the session begins, and on the drain's thread, as a
// sandboxed thread of the target may be killed for it. Never waits for another thread.
void ReadModuleFiles();

// Looks whether modules were unloaded by a call that is not seen (libc unloads its own converters;
// dlclose may be called past the hook), even if another library of the same layout lies in their
// place. One system call for each module that has a build-id, none that blocks. Called by the
// drain's thread, now and then. Never waits for another thread.
void NoticeUnloads();

struct CodeRange {
  uintptr_t begin = 0;
  uintptr_t end = 0;

  bool Holds(uintptr_t address) const { return address >= begin && address < end; }
};

// The loaded module whose address range holds `address`; refreshes the list when the dynamic linker
// knows one and the list does not. 0: in no module. Thread-safe; the caller holds no lock of ours.
// `around`, unless null: addresses, perhaps none, for which the answer would now be the same.
ModuleId FindModuleId(uintptr_t address, CodeRange* around = nullptr);

extern std::atomic<uint32_t> g_modules_generation;

// Changes whenever a module vanished; never 0.
inline uint32_t ModulesGeneration() { return g_modules_generation.load(std::memory_order_acquire); }

// How often a module that held `address` was unloaded: code at one address is the same code as long
// as this is the same number. A few instructions unless modules near it were unloaded.
extern std::atomic<uintptr_t> g_recycled_begin, g_recycled_end;
uint32_t TimesUnloadedSlow(uintptr_t address);
// A module was unloaded from there. By one thread at a time.
void CountUnload(uintptr_t begin, uintptr_t end);
inline uint32_t TimesUnloaded(uintptr_t address) {
  if (__builtin_expect(address < g_recycled_begin.load(std::memory_order_relaxed) ||
                           address >= g_recycled_end.load(std::memory_order_relaxed),
                       1)) {
    return 0;
  }
  return TimesUnloadedSlow(address);
}

}  // namespace ollamatrace

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_MODULES_H_
