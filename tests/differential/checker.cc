// libollamatrace.so, all of it, with libunwind as a second opinion: linked in with
// -Wl,--wrap=RecordAlloc, so that after a call is recorded, the stack that the record names is held
// against the one that unw_step finds, and against a walk of ours that remembers nothing. Whatever
// way led to that stack (its fingerprint, memory, tables, a walk) is thereby checked.
//
//   DIFFERENTIAL_DIR    where each process leaves PID.counters (counters.h) and PID.differences
//   DIFFERENTIAL_EVERY  compares each so-many-th allocation of a thread
//   DIFFERENTIAL_MOST   compares so many in a process at most

#include <stdlib.h>
#include <sys/mman.h>

#include <atomic>

#include "preload/base/sys.h"
#include "preload/base/text.h"
#include "preload/capture/libunwind_walk.h"
#include "preload/capture/modules.h"
#include "preload/capture/unwinder_modules.h"
#include "preload/capture/unwinder_rules.h"
#include "preload/capture/unwinder_shapes.h"
#include "preload/capture/unwinder_walk.h"
#include "preload/hooks/record.h"
#include "preload/session/session.h"
#include "preload/session/thread.h"
#include "tests/differential/counters.h"

#define WRAPPED_RECORD_ALLOC \
  _ZN11ollamatrace11RecordAllocEPKvmNS_13AllocFunctionERKNS_7capture11CallerFrameE
#define CONCATENATE_(a, b) a##b
#define CONCATENATE(a, b) CONCATENATE_(a, b)
#define REAL_RECORD_ALLOC CONCATENATE(__real_, WRAPPED_RECORD_ALLOC)
#define WRAP_RECORD_ALLOC CONCATENATE(__wrap_, WRAPPED_RECORD_ALLOC)

extern "C" void REAL_RECORD_ALLOC(const void* block, size_t size,
                                  ollamatrace::AllocFunction function,
                                  const ollamatrace::capture::CallerFrame& caller);

namespace ollamatrace::differential {
namespace {

using capture::CallerFrame;

constexpr int kMaxThreads = 64;  // that compare at the same time
constexpr int kMostPrinted = 20;

// Room for one comparison. Not on the stack, which may be small; nor in thread-local storage.
struct Workspace {
  std::atomic<bool> taken;
  capture::FrameInfo info;
  capture::CfiRows rows;
  uintptr_t ours[kMaxStackDepth];
  uintptr_t theirs[kMaxStackDepth];
  uintptr_t anew[kMaxStackDepth];
  char text[1 << 17];
};

capture::LibunwindWalk g_libunwind;
std::atomic<bool> g_ready{false};
uint64_t g_every = 1;
uint64_t g_most = ~uint64_t{0};
std::atomic<uint64_t> g_calls{0};
std::atomic<uint32_t> g_generation{0};
std::atomic<int> g_pid{0};
std::atomic<Counters*> g_counters{nullptr};
std::atomic<int> g_printed{0};
Workspace g_workspaces[kMaxThreads];
char g_folder[4096];

uint64_t Number(const char* name, uint64_t otherwise) {
  const char* const text = getenv(name);
  uint64_t value = 0;
  return text != nullptr && ParseNumber(text, TextLength(text), &value) && value != 0 ? value
                                                                                      : otherwise;
}

long OpenOwn(const char* suffix, int flags) {
  char path[4200];
  TextWriter(path, sizeof path)
      .Put(g_folder)
      .Put('/')
      .Number(static_cast<uint64_t>(sys::Getpid()))
      .Put(suffix);
  return sys::Open(path, flags | O_CREAT | O_CLOEXEC, 0666);
}

// The counters of this process, not of the parent that it is a fork of.
Counters* Own() {
  const int pid = sys::Getpid();
  if (g_pid.load(std::memory_order_acquire) == pid) return g_counters.load();
  if (g_folder[0] == '\0') return nullptr;
  const long fd = OpenOwn(".counters", O_RDWR);
  if (sys::Failed(fd)) return nullptr;
  sys::Ftruncate(static_cast<int>(fd), sizeof(Counters));
  void* const memory = sys::Mmap(nullptr, sizeof(Counters), PROT_READ | PROT_WRITE, MAP_SHARED,
                                 static_cast<int>(fd), 0);
  sys::Close(static_cast<int>(fd));
  if (memory == nullptr) return nullptr;
  g_counters.store(static_cast<Counters*>(memory));
  g_printed.store(0);
  g_pid.store(pid, std::memory_order_release);
  return static_cast<Counters*>(memory);
}

// The stack that the thread's last event names; 0 when there is none.
int Recorded(const CallerFrame& caller, uintptr_t* pcs) {
  const ThreadState* const state = t_thread.state;
  if (state == nullptr) return 0;
  const uint64_t head = state->ring->head.load(std::memory_order_acquire);
  if (head == 0) return 0;
  uint32_t id = state->events[(head - 1) & (state->capacity - 1)].stack;
  int depth = 0;
  for (; id != 0 && depth < static_cast<int>(kMaxStackDepth);
       id = g_session.journal.node(id)->parent) {
    const StackNode& node = *g_session.journal.node(id);
    pcs[depth++] =
        node.address | ((node.module & kNodeExact) != 0 ? capture::kExactPc : uintptr_t{0});
  }
  return depth > 0 && pcs[0] == caller.pc ? depth : 0;
}

struct Place {
  bool code = false;
  bool in_module = false;
  bool eh_frame = false;
  bool debug_frame = false;
  bool go = false;
  bool outermost = false;
  bool signal_frame = false;  // the kernel's, of a handler
};

Place Describe(Workspace* workspace, uintptr_t pc) {
  Place place;
  const uintptr_t address =
      capture::LookupAddress(pc & ~capture::kExactPc, (pc & capture::kExactPc) != 0);
  capture::ModuleTables tables;
  place.in_module = capture::FindModule(address, &tables) != capture::ModuleLookup::kUnknown;
  capture::MemoryRegion region;
  place.code = place.in_module || capture::FindExecutableRegion(address, &region);
  if (!place.in_module) return place;
  place.go = tables.known_go;
  if (!capture::FindCfiRow(tables, address, &workspace->info, &workspace->rows)) return place;
  place.signal_frame = workspace->info.common.signal_frame;
  place.outermost = workspace->rows.row.Rule(capture::kDwarfReturnAddress).kind ==
                    capture::RegisterRule::kUndefined;
  tables.debug_frame = nullptr;
  place.eh_frame = capture::FindCfiRow(tables, address, &workspace->info, &workspace->rows);
  place.debug_frame = !place.eh_frame;
  return place;
}

// The same program counters, and of those that only one of the two takes for interrupted, ours has
// it right: such a one, and no other, follows the kernel's frame of a handler.
bool OnlyTheirMarksAreWrong(Workspace* w, int depth) {
  for (int i = 0; i < depth; ++i) {
    if (w->ours[i] == w->theirs[i]) continue;
    if (((w->ours[i] ^ w->theirs[i]) & ~capture::kExactPc) != 0) return false;
    const bool interrupted = i > 0 && Describe(w, w->ours[i - 1]).signal_frame;
    if (interrupted != ((w->ours[i] & capture::kExactPc) != 0)) return false;
  }
  return true;
}

std::atomic<uint64_t>* Classify(Counters* counters, Workspace* w, int own, int their, int common) {
  if (their == 0) return &counters->not_started;
  if (common == 0) return &counters->unexplained;
  if (own == their && OnlyTheirMarksAreWrong(w, own)) return &counters->marks;
  const Place last = Describe(w, w->ours[common - 1]);
  if (last.go) return &counters->go;
  if (!last.in_module) return &counters->jit;
  if (last.debug_frame) return &counters->debug_frame;
  if (!last.eh_frame) return &counters->no_cfi;
  if (their > common && !Describe(w, w->theirs[common]).code) return &counters->not_code;
  if (their == common && own > common && Describe(w, w->ours[own - 1]).outermost) {
    return &counters->gave_up;
  }
  return &counters->unexplained;
}

void PutPc(TextWriter* out, uintptr_t pc) {
  const uintptr_t address = pc & ~capture::kExactPc;
  Dl_info info = {};
  out->Put("    0x").Number(address, 16);
  if ((pc & capture::kExactPc) != 0) out->Put(" exact");
  if (dladdr(reinterpret_cast<void*>(address), &info) != 0) {
    out->Put(' ')
        .Put(info.dli_fname)
        .Put("+0x")
        .Number(address - reinterpret_cast<uintptr_t>(info.dli_fbase), 16);
    if (info.dli_sname != nullptr) out->Put(' ').Put(info.dli_sname);
  }
  out->Put('\n');
}

void Print(Workspace* w, const char* title, int own, const char* others, const uintptr_t* other,
           int depth, int common) {
  TextWriter out(w->text, sizeof w->text);
  out.Put(title).Put(": agree in ").Number(static_cast<uint64_t>(common)).Put("\n  ours:\n");
  for (int i = 0; i < own; ++i) PutPc(&out, w->ours[i]);
  out.Put(others);
  for (int i = 0; i < depth; ++i) PutPc(&out, other[i]);
  const long fd = OpenOwn(".differences", O_WRONLY | O_APPEND);
  if (sys::Failed(fd)) return;
  sys::Write(static_cast<int>(fd), w->text, out.size());
  sys::Close(static_cast<int>(fd));
}

// Frames of the library itself, between a hook's first and last instructions that a handler may
// interrupt, are not to be in a stack.
int WithoutLibrary(uintptr_t* pcs, int depth) {
  capture::ModuleTables own;
  capture::FindModule(reinterpret_cast<uintptr_t>(&WithoutLibrary), &own);
  int kept = 0;
  for (int i = 0; i < depth; ++i) {
    const uintptr_t address = pcs[i] & ~capture::kExactPc;
    if (address >= own.code_begin && address < own.code_end) continue;
    pcs[kept++] = pcs[i];
  }
  return kept;
}

// Whether the hook is about to recognise the stack by its fingerprint, and not to walk it.
bool IsRecognised(const CallerFrame& caller) {
  ThreadState* const state = t_thread.state;
  if (state == nullptr) return false;
  auto* const cache = reinterpret_cast<capture::ThreadUnwindCache*>(state->unwind_cache);
  for (int way = 0; way < capture::StackShapeTable::kWays; ++way) {
    const capture::StackShape* const shape =
        capture::FindShape(cache, caller, g_session.settings.depth, way);
    if (shape == nullptr) continue;
    const uint64_t fingerprint = capture::Fingerprint(*shape, caller.frame_pointer);
    if (g_session.stacks.Find(fingerprint) != StackId{}) return true;
  }
  return false;
}

int Common(const uintptr_t* a, int depth_a, const uintptr_t* b, int depth_b) {
  int common = 0;
  while (common < depth_a && common < depth_b && a[common] == b[common]) ++common;
  return common;
}

// What the recording code knew before it took the stack.
struct Before {
  bool recognised;
  uint32_t generation;
};

void Compare(Counters* counters, Workspace* w, const CallerFrame& caller, const Before& before) {
  const int own = Recorded(caller, w->ours);
  if (own == 0) return;  // lost, and counted so
  // What libunwind remembers of a library may be about the one that was there before.
  const uint32_t generation = capture::ModuleGeneration();
  if (g_generation.exchange(generation) != generation) g_libunwind.Forget();
  counters->stacks.fetch_add(1);
  counters->frames.fetch_add(static_cast<uint64_t>(own));
  if (before.recognised) counters->recognised.fetch_add(1);
  const int limit = g_session.settings.depth;
  const int anew = capture::WalkByRules(nullptr, caller, w->anew, limit, false).depth;
  if (generation == before.generation && generation == capture::ModuleGeneration()) {
    const int common = Common(w->ours, own, w->anew, anew);
    if (common != own || common != anew) {
      counters->remembered_wrongly.fetch_add(1);
      if (g_printed.fetch_add(1) < kMostPrinted) {
        Print(w, before.recognised ? "not the stack of that fingerprint" : "remembered wrongly",
              own, "  walked without memory:\n", w->anew, anew, common);
      }
    }
  }
  const int their = WithoutLibrary(w->theirs, g_libunwind.Walk(caller, w->theirs, limit));
  const int common = Common(w->ours, own, w->theirs, their);
  if (common == own && common == their) {
    counters->equal.fetch_add(1);
    return;
  }
  std::atomic<uint64_t>* const kind = Classify(counters, w, own, their, common);
  const bool first = kind->fetch_add(1) == 0;
  if (kind == &counters->unexplained ? g_printed.fetch_add(1) < kMostPrinted : first) {
    Print(w, kCounterNames[kind - &counters->stacks], own, "  libunwind's:\n", w->theirs, their,
          common);
  }
}

__attribute__((constructor)) void Start() {
  const char* const folder = getenv("DIFFERENTIAL_DIR");
  if (folder == nullptr) return;
  TextWriter(g_folder, sizeof g_folder).Put(folder);
  g_every = Number("DIFFERENTIAL_EVERY", 1);
  g_most = Number("DIFFERENTIAL_MOST", ~uint64_t{0});
  const OwnWork own;
  g_ready.store(g_libunwind.Load(), std::memory_order_release);
}

}  // namespace

extern "C" void WRAP_RECORD_ALLOC(const void* block, size_t size, AllocFunction function,
                                  const CallerFrame& caller) {
  const bool compare = g_ready.load(std::memory_order_acquire) &&
                       g_calls.fetch_add(1, std::memory_order_relaxed) % g_every == 0;
  const Before before = {compare && IsRecognised(caller), capture::ModuleGeneration()};
  REAL_RECORD_ALLOC(block, size, function, caller);
  if (!compare) return;
  const int saved_errno = errno;
  Counters* const counters = Own();
  if (counters != nullptr && counters->stacks.load(std::memory_order_relaxed) < g_most) {
    for (Workspace& workspace : g_workspaces) {
      if (workspace.taken.exchange(true, std::memory_order_acquire)) continue;
      Compare(counters, &workspace, caller, before);
      workspace.taken.store(false, std::memory_order_release);
      break;
    }
  }
  errno = saved_errno;
}

}  // namespace ollamatrace::differential
