#ifndef OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_H_
#define OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_H_

// Call stacks of the calling thread, for the hot path of the hooks.
//
// What is promised: no lock, no allocation, no write to errno; no system call except where a walk
// comes to a page of a stack, or to a program counter, that is new. A corrupted stack gives a short
// stack, never a fault: every address is checked against pages known to be readable before it is
// read. Takes about 1 KiB of stack at most. May be called from a signal handler, also one that
// interrupts a walk with the same cache.
//
// How it works and what it does not do: UNWINDER.md.

#include <cstddef>
#include <cstdint>

namespace ollamatrace::capture {

// Where a walk starts: a function's caller, as it stands right after the function returns.
struct CallerFrame {
  uintptr_t pc;             // return address
  uintptr_t sp;             // stack pointer after the return (the callee's CFA)
  uintptr_t frame_pointer;  // rbp / x29 of the caller
};

// The caller of the function in which this macro stands. The function gets a frame pointer from it;
// it must not hold variables aligned to more than 16 bytes. Use it in the hook itself and hand the
// result down, so that no frame of this library is ever walked.
#define OLLAMATRACE_CALLER_FRAME()                                                     \
  (::ollamatrace::capture::CallerFrame{                                                \
      reinterpret_cast<uintptr_t>(__builtin_return_address(0)),                        \
      reinterpret_cast<uintptr_t>(__builtin_frame_address(0)) + 2 * sizeof(uintptr_t), \
      *static_cast<const uintptr_t*>(static_cast<const void*>(__builtin_frame_address(0)))})

// What one thread remembers between walks: its last stack and the bounds of the stacks it ran on.
// The memory is the caller's: kThreadUnwindCacheBytes, aligned to 64, zeroed (fresh mmap memory is
// a valid, empty cache). Used by one thread at a time; nothing to destroy; may be handed to another
// thread later, and survives fork in the child.
struct ThreadUnwindCache;
inline constexpr size_t kThreadUnwindCacheBytes = 308 * 1024;

struct UnwindResult {
  int depth;      // program counters written
  int unchanged;  // of these, how many of the outermost are the very ones that the previous walk
                  // with this cache returned as its outermost; 0 when that isn't known
  uint64_t fingerprint;  // of this stack, see unwinder_shapes.h; 0: it has none
};

// Set in a program counter that is exact (a signal interrupted the frame there), not a return
// address.
inline constexpr uintptr_t kExactPc = uintptr_t{1} << 63;

// Walks outward from `start` (which is frame 0) and writes at most `max` return addresses,
// innermost first; exact program counters are marked with kExactPc. Frames of modules registered as
// hidden are left out. A deeper stack is cut at its outer end. At least frame 0 is written if max >
// 0. Without `fingerprint` the result has none, and the stack's shape is not remembered.
UnwindResult Unwind(ThreadUnwindCache* cache, const CallerFrame& start, uintptr_t* pcs, int max,
                    bool fingerprint = true);

// --- Modules
// -----------------------------------------------------------------------------------------------------
// Calls that change the list are serialised by the caller; walks go on meanwhile.

struct ModuleImage {
  uintptr_t load_bias;  // dlpi_addr
  const void* phdrs;    // dlpi_phdr: ElfW(Phdr)[], mapped, read during the call only
  int phdr_count;       // dlpi_phnum
  bool hidden;  // true for libollamatrace.so itself: its frames are stepped through and left out
};

// Makes the module's unwind tables known (nothing is copied or compiled yet). A module that
// overlaps a known one replaces it. False when it has no executable segment or the list is full
// (walks then ask _dl_find_object).
bool RegisterModule(const ModuleImage& image);

// Tells what only the file of the module that holds `address` knows: .debug_frame, which must live
// as long as the process (null: there is none), and whether it was built by a Go whose stacks are
// known. Until then it has neither. The module itself is not read.
struct DebugFrame;
void AddToModule(uintptr_t address, const DebugFrame* debug_frame, bool known_go);

// Forgets the module that holds `address` (from its first byte to the end of its code), and every
// rule and remembered stack that might have come from it. Call it when dlclose has really unloaded
// it, before the caller of dlclose goes on.
void UnregisterModule(uintptr_t address);

// Forgets all modules (a fork child starts with it: a change may have been under way in the
// parent).
void UnregisterAllModules();

// --- Choice of unwinder
// ------------------------------------------------------------------------------------------

enum class UnwindBackend {
  kOwn,           // CFI, then frame pointers
  kFramePointer,  // frame pointers only
  kLibunwind,     // unw_backtrace of libunwind.so.8, loaded with RTLD_LOCAL
};

// Resolves what a walk may need (_dl_find_object) and selects the backend by name: "own", "fp",
// "libunwind"; null or empty is "own". Call once, at a moment when dlsym and dlopen are safe. False
// (and "own" is used) when the name is unknown or libunwind cannot be loaded. Walks before this
// call work, with kOwn.
bool InitUnwinder(const char* backend_name);
UnwindBackend CurrentUnwindBackend();

}  // namespace ollamatrace::capture

#endif  // OLLAMATRACE_PRELOAD_CAPTURE_UNWINDER_H_
