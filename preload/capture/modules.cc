#include "preload/capture/modules.h"

#include <elf.h>
#include <link.h>
#include <string.h>

#include "formats/encode.h"
#include "preload/base/clock.h"
#include "preload/base/exe_path.h"
#include "preload/base/lock.h"
#include "preload/base/signal_block.h"
#include "preload/base/sys.h"
#include "preload/base/text.h"
#include "preload/capture/module_file.h"
#include "preload/capture/unwinder.h"
#include "preload/capture/unwinder_modules.h"

namespace ollamatrace {

std::atomic<uint32_t> g_modules_generation{1};
std::atomic<uintptr_t> g_recycled_begin{~uintptr_t{0}}, g_recycled_end{0};

namespace {

struct Slot {
  std::atomic<uintptr_t> begin{0};  // 0: free
  std::atomic<uintptr_t> end{0};
  std::atomic<uint32_t> id{0};
  uintptr_t bias = 0;
  const ElfW(Phdr) * headers = nullptr;
  int header_count = 0;
  uint64_t name_hash = 0;
  capture::ModuleIdentity identity;
  const uint8_t* build_id_at = nullptr;  // in the module; null: it has none
  bool seen = false;
  std::atomic<bool> gone{
      false};  // unloaded unnoticed: FindLoaded passes over it, the next Visit ends it
  bool file_wanted = false;
  capture::ModuleFile file;  // what it told
  Text path;                 // in g_paths, ended by NUL
};

// Held while the list is compared and changed, inside dl_iterate_phdr's callbacks, too: the order
// is the dynamic linker's lock, then this one, then that of the definitions.
constinit FutexLock g_lock;
constinit Slot g_slots[kMaxModules];
std::atomic<int> g_slots_used{0};
std::atomic<uint32_t> g_version{0};  // odd while slots change
std::atomic<uint64_t> g_seen_changes{~uint64_t{0}};
uint32_t g_next_id = 1;
DefineFunction g_define = nullptr;
void (*g_files_wanted)() = nullptr;
std::atomic<bool> g_any_file_wanted{false};

// Room for what is too large for a small stack; used under g_lock.
char g_path[kMaxPathBytes];
uint8_t g_record[kModuleBytes];

// The paths of all modules, for the traces of fork children. Touched as it fills; a path that finds
// no room is missing there alone.
char g_paths[512u << 10];
size_t g_paths_used = 0;

Text KeepPath(Text path) {
  if (path.size >= sizeof g_paths - g_paths_used) return {};
  char* const kept = g_paths + g_paths_used;
  memcpy(kept, path.data, path.size);
  kept[path.size] = '\0';
  g_paths_used += path.size + 1;
  return {kept, path.size};
}

uint64_t HashText(const char* text) {
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  for (; *text != '\0'; ++text) {
    hash = (hash ^ static_cast<uint8_t>(*text)) * UINT64_C(0x100000001b3);
  }
  return hash;
}

// Takes the build-id from the module's loaded notes, and where it lies.
void ReadBuildId(Slot* slot) {
  slot->identity.build_id_size = 0;
  slot->build_id_at = nullptr;
  for (int i = 0; i < slot->header_count; ++i) {
    const ElfW(Phdr)& header = slot->headers[i];
    if (header.p_type != PT_NOTE) continue;
    // Only what a PT_LOAD brings into memory can be read.
    bool loaded = false;
    for (int k = 0; k < slot->header_count; ++k) {
      const ElfW(Phdr)& load = slot->headers[k];
      loaded |= load.p_type == PT_LOAD && header.p_vaddr >= load.p_vaddr &&
                header.p_vaddr + header.p_filesz <= load.p_vaddr + load.p_filesz;
    }
    if (!loaded) continue;
    size_t size;
    const uint8_t* const id =
        capture::FindBuildId(reinterpret_cast<const uint8_t*>(slot->bias + header.p_vaddr),
                             header.p_filesz, header.p_align, &size);
    if (id == nullptr) continue;
    memcpy(slot->identity.build_id, id, size);
    slot->identity.build_id_size = size;
    slot->build_id_at = id;
    return;
  }
}

// The path to the module's file, absolute, into g_path.
Text ModulePath(const char* name, bool first) {
  size_t size = 0;
  if (first && name[0] == '\0') {
    size = ReadExePath(g_path, sizeof g_path);
  } else if (TextEquals(name, "linux-vdso.so.1") || TextEquals(name, "linux-gate.so.1")) {
    memcpy(g_path, "[vdso]", 6);
    size = 6;
  } else if (name[0] != '\0') {
    TextWriter path(g_path, sizeof g_path);
    if (name[0] != '/') {
      // The kernel answers the length with the NUL; a path outside our root begins with '('.
      const long length = sys::Call(__NR_getcwd, sys::Arg(g_path), sizeof g_path);
      if (length > 1 && g_path[0] == '/') {
        const auto folder = static_cast<size_t>(length) - 1;
        TextWriter rest(g_path + folder, sizeof g_path - folder);
        rest.Put('/').Put(name);
        return {g_path, folder + rest.size()};
      }
    }
    path.Put(name);
    size = path.size();
  }
  return {g_path, size};
}

void Define(const Slot& slot, Text path, uint64_t now) {
  ModuleRecord record;
  record.id = ModuleId{slot.id.load(std::memory_order_relaxed)};
  record.time_ns = now;
  record.bias = slot.bias;
  record.begin = slot.begin.load(std::memory_order_relaxed);
  record.end = slot.end.load(std::memory_order_relaxed);
  record.build_id = {reinterpret_cast<const char*>(slot.identity.build_id),
                     slot.identity.build_id_size};
  record.path = path;
  g_define(g_record, EncodeModule(record, g_record));
}

void AddFile(const Slot& slot) {
  if (slot.file.tells_nothing()) return;
  capture::AddToModule(slot.begin.load(std::memory_order_relaxed), slot.file.debug_frame,
                       slot.file.known_go);
}

void TellUnwinder(const Slot& slot) {
  const auto self = reinterpret_cast<uintptr_t>(&g_lock);
  capture::RegisterModule({slot.bias, slot.headers, slot.header_count,
                           self >= slot.begin.load(std::memory_order_relaxed) &&
                               self < slot.end.load(std::memory_order_relaxed)});
  AddFile(slot);
}

// A change of the list as FindLoaded sees it, which waits for its end.
class Change {
 public:
  Change() { g_version.fetch_add(1, std::memory_order_acq_rel); }
  ~Change() { g_version.fetch_add(1, std::memory_order_acq_rel); }
};

void Clear(Slot* slot) {
  const Change change;
  slot->begin.store(0, std::memory_order_relaxed);
  slot->end.store(0, std::memory_order_relaxed);
}

// Where modules were unloaded, and how often. When there are too many such places, the last stands
// for all addresses.
struct RecycledRange {
  std::atomic<uintptr_t> begin, end;
  std::atomic<uint32_t> times;
};
constexpr int kMaxRecycled = 256;
RecycledRange g_recycled[kMaxRecycled];
std::atomic<int> g_recycled_count{0};

void Unload(Slot* slot, uint64_t now) {
  const uint32_t id = slot->id.load(std::memory_order_relaxed);
  capture::UnregisterModule(slot->begin.load(std::memory_order_relaxed));
  CountUnload(slot->begin.load(std::memory_order_relaxed),
              slot->end.load(std::memory_order_relaxed));
  Clear(slot);
  g_modules_generation.fetch_add(1, std::memory_order_acq_rel);
  g_define(g_record, EncodeModuleUnload({ModuleId{id}, now}, g_record));
}

// The record of it is left to the next RefreshModules, which the next call from there brings about:
// room for it in the journal is made by the drain's thread, which this is.
void MarkGone(Slot* slot) {
  capture::UnregisterModule(slot->begin.load(std::memory_order_relaxed));
  CountUnload(slot->begin.load(std::memory_order_relaxed),
              slot->end.load(std::memory_order_relaxed));
  {
    const Change change;
    slot->gone.store(true, std::memory_order_relaxed);
  }
  g_seen_changes.store(~uint64_t{0}, std::memory_order_release);
  g_modules_generation.fetch_add(1, std::memory_order_acq_rel);
}

struct Walk {
  bool locked = false;
  bool unchanged = false;
  bool first = true;
  bool files_wanted = false;
  uint64_t changes = 0;
};

int Visit(struct dl_phdr_info* info, size_t size, void* argument) {
  Walk* walk = static_cast<Walk*>(argument);
  const bool first = walk->first;
  walk->first = false;
  if (first) {
    walk->changes = size >= offsetof(struct dl_phdr_info, dlpi_subs) + sizeof info->dlpi_subs
                        ? info->dlpi_adds + (uint64_t{info->dlpi_subs} << 32)
                        : 0;
    if (walk->changes == g_seen_changes.load(std::memory_order_acquire)) {
      walk->unchanged = true;
      return 1;
    }
    g_lock.Lock();
    walk->locked = true;
    for (int i = 0; i < g_slots_used.load(std::memory_order_relaxed); ++i) g_slots[i].seen = false;
  }
  uintptr_t begin = ~uintptr_t{0};
  uintptr_t end = 0;
  for (int i = 0; i < info->dlpi_phnum; ++i) {
    const ElfW(Phdr)& header = info->dlpi_phdr[i];
    if (header.p_type != PT_LOAD) continue;
    if (info->dlpi_addr + header.p_vaddr < begin) begin = info->dlpi_addr + header.p_vaddr;
    if (info->dlpi_addr + header.p_vaddr + header.p_memsz > end) {
      end = info->dlpi_addr + header.p_vaddr + header.p_memsz;
    }
  }
  if (begin >= end) return 0;

  const char* const name = info->dlpi_name == nullptr ? "" : info->dlpi_name;
  const uint64_t name_hash = HashText(name);
  Slot found;  // on the stack: about 180 bytes
  found.bias = info->dlpi_addr;
  found.headers = info->dlpi_phdr;
  found.header_count = info->dlpi_phnum;
  found.identity.headers_hash =
      capture::HashProgramHeaders(found.headers, static_cast<size_t>(found.header_count));
  ReadBuildId(&found);

  Slot* free_slot = nullptr;
  const int used = g_slots_used.load(std::memory_order_relaxed);
  for (int i = 0; i < used; ++i) {
    Slot& slot = g_slots[i];
    const uintptr_t slot_begin = slot.begin.load(std::memory_order_relaxed);
    if (slot_begin == 0) {
      if (free_slot == nullptr) free_slot = &slot;
      continue;
    }
    const uintptr_t slot_end = slot.end.load(std::memory_order_relaxed);
    if (slot_begin == begin && slot_end == end && slot.bias == found.bias &&
        slot.headers == found.headers && slot.name_hash == name_hash &&
        !slot.gone.load(std::memory_order_relaxed) &&
        slot.identity.headers_hash == found.identity.headers_hash &&
        slot.identity.build_id_size == found.identity.build_id_size &&
        memcmp(slot.identity.build_id, found.identity.build_id, found.identity.build_id_size) ==
            0) {
      slot.seen = true;
      return 0;
    }
    if (slot_begin < end && begin < slot_end) {  // what was there is gone
      Unload(&slot, MonotonicNs());
      if (free_slot == nullptr) free_slot = &slot;
    }
  }
  if (free_slot == nullptr) {
    if (used == kMaxModules) return 0;
    free_slot = &g_slots[used];
  }
  if (g_next_id >= kMaxModuleIds) return 0;
  {
    const Change change;
    free_slot->bias = found.bias;
    free_slot->headers = found.headers;
    free_slot->header_count = found.header_count;
    free_slot->name_hash = name_hash;
    free_slot->identity = found.identity;
    free_slot->build_id_at = found.build_id_at;
    free_slot->file = {};
    free_slot->gone.store(false, std::memory_order_relaxed);
    free_slot->seen = true;
    free_slot->id.store(g_next_id++, std::memory_order_relaxed);
    free_slot->begin.store(begin, std::memory_order_relaxed);
    free_slot->end.store(end, std::memory_order_relaxed);
    if (free_slot == &g_slots[used]) g_slots_used.store(used + 1, std::memory_order_release);
  }
  TellUnwinder(*free_slot);
  const Text path = ModulePath(name, first);
  free_slot->path = KeepPath(path);
  // The vdso has none.
  free_slot->file_wanted = free_slot->path.size != 0 && free_slot->path.data[0] == '/';
  walk->files_wanted |= free_slot->file_wanted;
  Define(*free_slot, path, MonotonicNs());
  return 0;
}

ModuleId FindLoaded(uintptr_t address) {
  for (;;) {
    const uint32_t version = g_version.load(std::memory_order_acquire);
    uint32_t id = 0;
    const int used = g_slots_used.load(std::memory_order_acquire);
    for (int i = 0; i < used; ++i) {
      const Slot& slot = g_slots[i];
      if (address >= slot.begin.load(std::memory_order_relaxed) &&
          address < slot.end.load(std::memory_order_relaxed) &&
          !slot.gone.load(std::memory_order_relaxed)) {
        id = slot.id.load(std::memory_order_relaxed);
        break;
      }
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if ((version & 1) == 0 && g_version.load(std::memory_order_relaxed) == version) {
      return ModuleId{id};
    }
  }
}

}  // namespace

void CountUnload(uintptr_t begin, uintptr_t end) {
  const int count = g_recycled_count.load(std::memory_order_relaxed);
  int i = 0;
  while (i < count && (g_recycled[i].begin.load(std::memory_order_relaxed) != begin ||
                       g_recycled[i].end.load(std::memory_order_relaxed) != end)) {
    ++i;
  }
  if (i >= kMaxRecycled - 1) {
    i = kMaxRecycled - 1;
    begin = 0;
    end = ~uintptr_t{0};
  }
  g_recycled[i].begin.store(begin, std::memory_order_relaxed);
  g_recycled[i].end.store(end, std::memory_order_relaxed);
  g_recycled[i].times.fetch_add(1, std::memory_order_relaxed);
  if (i >= count) g_recycled_count.store(i + 1, std::memory_order_release);
  if (begin < g_recycled_begin.load(std::memory_order_relaxed)) g_recycled_begin.store(begin);
  if (end > g_recycled_end.load(std::memory_order_relaxed)) g_recycled_end.store(end);
}

uint32_t TimesUnloadedSlow(uintptr_t address) {
  uint32_t times = 0;
  const int count = g_recycled_count.load(std::memory_order_acquire);
  for (int i = 0; i < count; ++i) {
    const RecycledRange& range = g_recycled[i];
    if (address >= range.begin.load(std::memory_order_relaxed) &&
        address < range.end.load(std::memory_order_relaxed)) {
      times += range.times.load(std::memory_order_relaxed);
    }
  }
  return times;
}

void InitModules(DefineFunction define, void (*files_wanted)()) {
  g_define = define;
  g_files_wanted = files_wanted;
}

void RedefineModules() {
  g_lock.Reset();
  if ((g_version.load(std::memory_order_relaxed) & 1) != 0) g_version.fetch_add(1);
  capture::UnregisterAllModules();
  const uint64_t now = MonotonicNs();
  for (int i = 0; i < g_slots_used.load(std::memory_order_relaxed); ++i) {
    Slot& slot = g_slots[i];
    const uintptr_t begin = slot.begin.load(std::memory_order_relaxed);
    if (begin == 0) continue;
    // The parent may not have noticed yet: what the unwinder is shown is read.
    if (slot.gone.load(std::memory_order_relaxed) || !capture::IsObjectAt(begin)) {
      Clear(&slot);
      continue;
    }
    TellUnwinder(slot);
    Define(slot, slot.path, now);
  }
}

void RefreshModules() {
  const SignalBlock no_signals;
  Walk walk;
  dl_iterate_phdr(Visit, &walk);
  if (!walk.locked) return;
  for (int i = 0; i < g_slots_used.load(std::memory_order_relaxed); ++i) {
    Slot& slot = g_slots[i];
    if (slot.seen || slot.begin.load(std::memory_order_relaxed) == 0) continue;
    Unload(&slot, MonotonicNs());
  }
  g_seen_changes.store(walk.changes, std::memory_order_release);
  g_lock.Unlock();
  if (walk.files_wanted) {
    g_any_file_wanted.store(true, std::memory_order_release);
    if (g_files_wanted != nullptr) g_files_wanted();
  }
}

void ReadModuleFiles() {
  if (!g_any_file_wanted.load(std::memory_order_relaxed) || !g_lock.TryLock()) return;
  g_any_file_wanted.store(false, std::memory_order_relaxed);
  for (int i = 0; i < g_slots_used.load(std::memory_order_relaxed); ++i) {
    Slot& slot = g_slots[i];
    if (!slot.file_wanted) continue;
    slot.file_wanted = false;
    if (slot.begin.load(std::memory_order_relaxed) == 0 ||
        slot.gone.load(std::memory_order_relaxed))
      continue;
    const uint32_t id = slot.id.load(std::memory_order_relaxed);
    const capture::ModuleIdentity identity = slot.identity;
    const Text path = slot.path;
    // Not under the lock: the file may lie far away.
    g_lock.Unlock();
    const capture::ModuleFile file = capture::ReadModuleFile(path.data, identity);
    if (!g_lock.TryLock()) {
      slot.file_wanted = true;
      g_any_file_wanted.store(true, std::memory_order_relaxed);
      return;
    }
    if (slot.id.load(std::memory_order_relaxed) != id ||
        slot.gone.load(std::memory_order_relaxed) ||
        slot.begin.load(std::memory_order_relaxed) == 0) {
      continue;
    }
    slot.file = file;
    AddFile(slot);
  }
  g_lock.Unlock();
}

void NoticeUnloads() {
  if (!g_lock.TryLock()) return;
  for (int i = 0; i < g_slots_used.load(std::memory_order_relaxed); ++i) {
    Slot& slot = g_slots[i];
    const uintptr_t begin = slot.begin.load(std::memory_order_relaxed);
    if (begin == 0 || slot.gone.load(std::memory_order_relaxed) || slot.identity.build_id_size < 4)
      continue;
    uint32_t word;
    memcpy(&word, slot.identity.build_id, sizeof word);
    const sys::WordIs is = sys::CompareWord(slot.build_id_at, word);
    if (is == sys::WordIs::kEqual || is == sys::WordIs::kNotTold ||
        (is == sys::WordIs::kUnreadable && capture::IsObjectAt(begin))) {
      continue;
    }
    MarkGone(&slot);
  }
  g_lock.Unlock();
}

ModuleId FindModuleId(uintptr_t address, CodeRange* around) {
  if (around != nullptr) *around = {};
  // libc unloads its own modules (converters) by no call that we see.
  const ModuleId known = FindLoaded(address);
  capture::ModuleTables tables;
  const capture::ModuleLookup told = capture::FindModule(address, &tables);
  if (told ==
      (known != ModuleId{} ? capture::ModuleLookup::kFound : capture::ModuleLookup::kUnknown)) {
    if (known != ModuleId{} && around != nullptr) *around = {tables.code_begin, tables.code_end};
    return known;
  }
  RefreshModules();
  return FindLoaded(address);
}

}  // namespace ollamatrace
