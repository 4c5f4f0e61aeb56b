#include "preload/capture/unwinder_modules.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <atomic>
#include <cstring>

#include "preload/capture/stack_region.h"
#include "preload/capture/unwinder.h"

namespace ollamatrace::capture {

constinit std::atomic<uint32_t> g_module_generation = 1;

namespace {

constexpr int kMaxModules = 2048;
constexpr int kMaxProgramHeaders = 256;
constexpr int kReadAttempts = 16;

// ModuleTables as words, so that a reader that races a writer has no undefined behaviour, only a
// stale copy.
struct Slot {
  enum Word {
    kCodeBegin,
    kCodeEnd,
    kHeader,
    kHeaderEnd,
    kCfiBegin,
    kCfiEnd,
    kImageBegin,
    kBias,
    kFlags,
    kRegisterWords,  // those before are what RegisterModule is told
    kDebugFrame = kRegisterWords,
    kKnownGo,
    kWords
  };
  static constexpr uintptr_t kHidden = 1, kCodeReadable = 2;  // in kFlags
  std::atomic<uintptr_t> words[kWords];

  uintptr_t Get(Word word) const { return words[word].load(std::memory_order_relaxed); }
  void CopyFrom(const Slot& other) {
    for (int i = 0; i < kWords; ++i) {
      words[i].store(other.words[i].load(std::memory_order_relaxed), std::memory_order_relaxed);
    }
  }
};

struct List {
  std::atomic<uint32_t> sequence;  // odd while it is being changed
  std::atomic<int> count;
  Slot slots[kMaxModules];  // sorted by code_begin, without overlaps
};

constinit List g_list = {};

void NextGeneration() {
  const uint32_t generation = g_module_generation.load(std::memory_order_relaxed);
  g_module_generation.store(generation % 0xffff + 1, std::memory_order_release);
}

// glibc's struct dl_find_object, <bits/dl_find_object.h>; declared here so that older headers build
// it too.
struct DlFindObjectResult {
  unsigned long long flags;
  void* map_start;
  void* map_end;
  struct link_map* map;
  void* eh_frame;
  unsigned long long reserved[7];
};
using DlFindObject = int (*)(void*, DlFindObjectResult*);
constinit std::atomic<DlFindObject> g_dl_find_object = nullptr;

const uint8_t* Pointer(uintptr_t address) { return reinterpret_cast<const uint8_t*>(address); }
uintptr_t Address(const uint8_t* pointer) { return reinterpret_cast<uintptr_t>(pointer); }

// What may be read of the segment that holds `address`: false when there is none.
bool ReadableSegment(uintptr_t bias, const ElfW(Phdr) * phdrs, int count, uintptr_t address,
                     uintptr_t* begin, uintptr_t* end) {
  for (int i = 0; i < count; ++i) {
    if (phdrs[i].p_type != PT_LOAD || (phdrs[i].p_flags & PF_R) == 0) continue;
    const uintptr_t start = bias + phdrs[i].p_vaddr;
    const uintptr_t stop = start + phdrs[i].p_filesz;
    if (address >= start && address < stop) {
      *begin = start;
      *end = stop;
      return true;
    }
  }
  return false;
}

bool DescribeModule(uintptr_t bias, const ElfW(Phdr) * phdrs, int count, ModuleTables* tables) {
  *tables = ModuleTables();
  tables->bias = bias;
  const ElfW(Phdr)* eh_frame = nullptr;
  for (int i = 0; i < count; ++i) {
    const ElfW(Phdr)& phdr = phdrs[i];
    if (phdr.p_type == PT_GNU_EH_FRAME) eh_frame = &phdr;
    if (phdr.p_type != PT_LOAD || (phdr.p_flags & PF_X) == 0 || phdr.p_memsz == 0) continue;
    const uintptr_t begin = bias + phdr.p_vaddr;
    const uintptr_t end = begin + phdr.p_memsz;
    if (end < begin) continue;
    // One segment has no holes.
    tables->code_readable = tables->code_end == 0 && (phdr.p_flags & PF_R) != 0;
    if (tables->code_end == 0 || begin < tables->code_begin) tables->code_begin = begin;
    if (end > tables->code_end) tables->code_end = end;
  }
  if (tables->code_end == 0) return false;
  if (eh_frame == nullptr) return true;

  CfiSection cfi;
  const uintptr_t header = bias + eh_frame->p_vaddr;
  uintptr_t begin;
  uintptr_t end;
  if (!ReadableSegment(bias, phdrs, count, header, &begin, &end)) return true;
  const uintptr_t header_size = end - header < eh_frame->p_memsz ? end - header : eh_frame->p_memsz;
  cfi.header = Pointer(header);
  cfi.header_end = Pointer(header + header_size);
  if (!ReadableSegment(bias, phdrs, count, EhFrameAddress(cfi), &begin, &end)) return true;
  cfi.begin = Pointer(begin);
  cfi.end = Pointer(end);
  tables->cfi = cfi;
  return true;
}

class Change {
 public:
  Change() {
    g_list.sequence.fetch_add(1, std::memory_order_relaxed);
    std::atomic_thread_fence(std::memory_order_seq_cst);
  }
  ~Change() {
    std::atomic_thread_fence(std::memory_order_seq_cst);
    NextGeneration();
    g_list.sequence.fetch_add(1, std::memory_order_release);
  }
  Change(const Change&) = delete;
  Change& operator=(const Change&) = delete;
};

int Count() {
  const int count = g_list.count.load(std::memory_order_relaxed);
  return count < kMaxModules ? count : kMaxModules;
}

// The first slot whose code ends after `address`.
int LowerBound(uintptr_t address) {
  int low = 0;
  int high = Count();
  while (low < high) {
    const int middle = (low + high) / 2;
    if (g_list.slots[middle].Get(Slot::kCodeEnd) <= address) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

// Whether the slot that LowerBound found for `address` is that of the module which holds it, at any
// place up to the end of its code.
bool Holds(int index, uintptr_t address) {
  return index < Count() && g_list.slots[index].Get(Slot::kImageBegin) <= address;
}

void RemoveSlots(int first, int last) {
  const int count = Count();
  for (int i = last; i < count; ++i) g_list.slots[first + i - last].CopyFrom(g_list.slots[i]);
  g_list.count.store(count - (last - first), std::memory_order_relaxed);
}

bool FindRegistered(uintptr_t pc, ModuleTables* tables, bool* busy) {
  for (int attempt = 0; attempt < kReadAttempts; ++attempt) {
    const uint32_t before = g_list.sequence.load(std::memory_order_acquire);
    if ((before & 1) != 0) continue;
    const int index = LowerBound(pc);
    bool found = false;
    if (index < Count()) {
      const Slot& slot = g_list.slots[index];
      tables->code_begin = slot.Get(Slot::kCodeBegin);
      tables->code_end = slot.Get(Slot::kCodeEnd);
      tables->cfi.header = Pointer(slot.Get(Slot::kHeader));
      tables->cfi.header_end = Pointer(slot.Get(Slot::kHeaderEnd));
      tables->cfi.begin = Pointer(slot.Get(Slot::kCfiBegin));
      tables->cfi.end = Pointer(slot.Get(Slot::kCfiEnd));
      tables->bias = slot.Get(Slot::kBias);
      tables->debug_frame = reinterpret_cast<const DebugFrame*>(slot.Get(Slot::kDebugFrame));
      tables->known_go = slot.Get(Slot::kKnownGo) != 0;
      tables->hidden = (slot.Get(Slot::kFlags) & Slot::kHidden) != 0;
      tables->code_readable = (slot.Get(Slot::kFlags) & Slot::kCodeReadable) != 0;
      found = pc >= tables->code_begin && pc < tables->code_end;
    }
    std::atomic_thread_fence(std::memory_order_acquire);
    if (g_list.sequence.load(std::memory_order_relaxed) == before) {
      *busy = false;
      return found;
    }
  }
  *busy = true;
  return false;
}

// Whether a registered module is still what is mapped there. Between the unmapping of a module and
// the call of UnregisterModule another thread may have loaded another one at its place.
bool LinkerAgrees(uintptr_t pc, const ModuleTables& tables) {
  const DlFindObject find = g_dl_find_object.load(std::memory_order_relaxed);
  DlFindObjectResult object;
  if (find == nullptr) return true;
  return find(reinterpret_cast<void*>(pc), &object) == 0 &&
         (tables.cfi.empty() || object.eh_frame == tables.cfi.header);
}

bool FindThroughLinker(uintptr_t pc, ModuleTables* tables) {
  const DlFindObject find = g_dl_find_object.load(std::memory_order_relaxed);
  DlFindObjectResult object;
  if (find == nullptr || find(reinterpret_cast<void*>(pc), &object) != 0) return false;
  const auto begin = reinterpret_cast<uintptr_t>(object.map_start);
  const auto end = reinterpret_cast<uintptr_t>(object.map_end);
  ElfW(Ehdr) header;
  if (object.map == nullptr || end <= begin || end - begin < sizeof(header)) return false;
  std::memcpy(&header, object.map_start, sizeof(header));
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_phnum > kMaxProgramHeaders ||
      header.e_phentsize != sizeof(ElfW(Phdr)) || header.e_phoff % alignof(ElfW(Phdr)) != 0 ||
      header.e_phoff > end - begin ||
      header.e_phnum * sizeof(ElfW(Phdr)) > end - begin - header.e_phoff) {
    return false;
  }
  return DescribeModule(object.map->l_addr,
                        reinterpret_cast<const ElfW(Phdr)*>(begin + header.e_phoff), header.e_phnum,
                        tables) &&
         pc >= tables->code_begin && pc < tables->code_end;
}

uintptr_t ImageBegin(const ModuleImage& image) {
  const auto* const phdrs = static_cast<const ElfW(Phdr)*>(image.phdrs);
  uintptr_t begin = ~uintptr_t{0};
  for (int i = 0; i < image.phdr_count; ++i) {
    const uintptr_t start = image.load_bias + phdrs[i].p_vaddr;
    if (phdrs[i].p_type == PT_LOAD && start < begin) begin = start;
  }
  return begin;
}

}  // namespace

ModuleLookup FindModule(uintptr_t pc, ModuleTables* tables) {
  bool busy = false;
  bool found = FindRegistered(pc, tables, &busy);
  if (found) {
    if (LinkerAgrees(pc, *tables)) return ModuleLookup::kFound;
    busy = true;  // UnregisterModule or RegisterModule is about to be called
  }
  if (FindThroughLinker(pc, tables)) return busy ? ModuleLookup::kBusy : ModuleLookup::kFound;
  *tables = ModuleTables();
  return busy ? ModuleLookup::kBusy : ModuleLookup::kUnknown;
}

bool IsObjectAt(uintptr_t begin) {
  const DlFindObject find = g_dl_find_object.load(std::memory_order_relaxed);
  DlFindObjectResult object;
  if (find == nullptr) return ReadableUpTo(begin, begin + 1) > begin;
  return find(reinterpret_cast<void*>(begin), &object) == 0 &&
         begin - reinterpret_cast<uintptr_t>(object.map_start) < kPageBytes;
}

void ResolveDlFindObject() {
  g_dl_find_object.store(reinterpret_cast<DlFindObject>(dlsym(RTLD_DEFAULT, "_dl_find_object")),
                         std::memory_order_relaxed);
}

bool RegisterModule(const ModuleImage& image) {
  ModuleTables tables;
  if (!DescribeModule(image.load_bias, static_cast<const ElfW(Phdr)*>(image.phdrs),
                      image.phdr_count, &tables)) {
    return false;
  }
  const uintptr_t image_begin = ImageBegin(image);
  const int first = LowerBound(tables.code_begin);
  int last = first;
  while (last < Count() && g_list.slots[last].Get(Slot::kCodeBegin) < tables.code_end) ++last;
  const uintptr_t words[Slot::kWords] = {
      // kDebugFrame and kKnownGo are 0

      tables.code_begin,
      tables.code_end,
      Address(tables.cfi.header),
      Address(tables.cfi.header_end),
      Address(tables.cfi.begin),
      Address(tables.cfi.end),
      image_begin,
      tables.bias,
      (image.hidden ? Slot::kHidden : 0) | (tables.code_readable ? Slot::kCodeReadable : 0)};
  if (last - first == 1) {  // known already? then nothing that was learnt becomes void
    bool same = true;
    for (int i = 0; i < Slot::kRegisterWords; ++i) {
      same = same && g_list.slots[first].Get(static_cast<Slot::Word>(i)) == words[i];
    }
    if (same) return true;
  }
  if (last == first && Count() == kMaxModules) return false;

  Change change;
  RemoveSlots(first, last);
  const int count = Count();
  for (int i = count; i > first; --i) g_list.slots[i].CopyFrom(g_list.slots[i - 1]);
  for (int i = 0; i < Slot::kWords; ++i) {
    g_list.slots[first].words[i].store(words[i], std::memory_order_relaxed);
  }
  g_list.count.store(count + 1, std::memory_order_relaxed);
  return true;
}

void AddToModule(uintptr_t address, const DebugFrame* debug_frame, bool known_go) {
  const int index = LowerBound(address);
  if (!Holds(index, address)) return;
  Slot& slot = g_list.slots[index];
  Change change;
  slot.words[Slot::kDebugFrame].store(reinterpret_cast<uintptr_t>(debug_frame),
                                      std::memory_order_relaxed);
  slot.words[Slot::kKnownGo].store(known_go ? 1 : 0, std::memory_order_relaxed);
}

void UnregisterModule(uintptr_t address) {
  // Changes the generation even when no such module is known: rules may have come through
  // _dl_find_object.
  Change change;
  const int index = LowerBound(address);
  if (Holds(index, address)) RemoveSlots(index, index + 1);
}

void UnregisterAllModules() {
  g_list.count.store(0, std::memory_order_relaxed);
  NextGeneration();
  g_list.sequence.fetch_add(2 - (g_list.sequence.load(std::memory_order_relaxed) & 1),
                            std::memory_order_release);
}

}  // namespace ollamatrace::capture
