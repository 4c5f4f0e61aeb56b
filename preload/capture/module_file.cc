#include "preload/capture/module_file.h"

#include <elf.h>

#include <cstring>

#include "preload/base/sys.h"
#include "preload/capture/stack_region.h"

namespace ollamatrace::capture {
namespace {

constexpr size_t kMaxProgramHeaders = 256;
constexpr size_t kSectionsAtOnce = 64;

// Room for what is too large for a small stack.
ElfW(Phdr) g_headers[kMaxProgramHeaders];
ElfW(Shdr) g_sections[kSectionsAtOnce];
char g_names[8192];
uint8_t g_notes[4096];

class File {
 public:
  explicit File(const char* path)
      : fd_(static_cast<int>(sys::Open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK))) {
    if (fd_ >= 0 && (sys::Failed(sys::Fstat(fd_, &status_)) || !S_ISREG(status_.st_mode))) {
      sys::Close(fd_);
      fd_ = -1;
    }
  }
  ~File() {
    if (fd_ >= 0) sys::Close(fd_);
  }
  File(const File&) = delete;
  File& operator=(const File&) = delete;

  bool ok() const { return fd_ >= 0; }
  const struct stat& status() const { return status_; }

  bool Holds(uint64_t offset, uint64_t size) const {
    const auto all = static_cast<uint64_t>(status_.st_size);
    return offset <= all && size <= all - offset;
  }
  // All of it, or false.
  bool Read(uint64_t offset, void* out, size_t size) const {
    if (!Holds(offset, size)) return false;
    auto* at = static_cast<uint8_t*>(out);
    while (size > 0) {
      const long got = sys::Pread(fd_, at, size, offset);
      if (got <= 0) return false;
      at += got;
      offset += static_cast<uint64_t>(got);
      size -= static_cast<size_t>(got);
    }
    return true;
  }

 private:
  int fd_;
  struct stat status_ = {};
};

// Memory of its own, until Release.
class Memory {
 public:
  explicit Memory(size_t size)
      : data_(static_cast<uint8_t*>(sys::MmapPrivate(size))), size_(size) {}
  ~Memory() {
    if (data_ != nullptr) sys::Munmap(data_, size_);
  }
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  uint8_t* data() const { return data_; }
  uint8_t* Release() {
    uint8_t* const data = data_;
    data_ = nullptr;
    return data;
  }

 private:
  uint8_t* data_;
  const size_t size_;
};

bool ReadProgramHeaders(const File& file, const ElfW(Ehdr) & header) {
  return header.e_phnum > 0 && header.e_phnum <= kMaxProgramHeaders &&
         header.e_phentsize == sizeof(ElfW(Phdr)) &&
         file.Read(header.e_phoff, g_headers, header.e_phnum * sizeof(ElfW(Phdr)));
}

// Whether the file is what was loaded. g_headers is its program header.
bool IsSame(const File& file, size_t count, const ModuleIdentity& identity) {
  if (HashProgramHeaders(g_headers, count) != identity.headers_hash) return false;
  if (identity.build_id_size == 0) return true;
  for (size_t i = 0; i < count; ++i) {
    const ElfW(Phdr)& header = g_headers[i];
    if (header.p_type != PT_NOTE || header.p_filesz > sizeof g_notes ||
        !file.Read(header.p_offset, g_notes, header.p_filesz)) {
      continue;
    }
    size_t size;
    const uint8_t* const id = FindBuildId(g_notes, header.p_filesz, header.p_align, &size);
    if (id != nullptr && size == identity.build_id_size &&
        std::memcmp(id, identity.build_id, size) == 0) {
      return true;
    }
  }
  return false;
}

struct Sections {
  ElfW(Shdr) debug_frame = {};  // sh_size 0: there is none
  ElfW(Shdr) go_build_info = {};
};

bool FindSections(const File& file, const ElfW(Ehdr) & header, Sections* found) {
  ElfW(Shdr) names;
  if (header.e_shentsize != sizeof(ElfW(Shdr)) || header.e_shstrndx >= header.e_shnum ||
      !file.Holds(header.e_shoff, uint64_t{header.e_shnum} * sizeof(ElfW(Shdr))) ||
      !file.Read(header.e_shoff + uint64_t{header.e_shstrndx} * sizeof names, &names,
                 sizeof names) ||
      names.sh_size > sizeof g_names || !file.Read(names.sh_offset, g_names, names.sh_size)) {
    return false;
  }
  const auto named = [&names](const ElfW(Shdr) & section, const char* name, size_t size) {
    return section.sh_name < names.sh_size && size <= names.sh_size - section.sh_name &&
           std::memcmp(g_names + section.sh_name, name, size) == 0;
  };
  static constexpr char kDebugFrame[] = ".debug_frame";
  static constexpr char kGoBuildInfo[] = ".go.buildinfo";
  for (size_t first = 0; first < header.e_shnum; first += kSectionsAtOnce) {
    const size_t left = header.e_shnum - first;
    const size_t count = left < kSectionsAtOnce ? left : kSectionsAtOnce;
    if (!file.Read(header.e_shoff + first * sizeof(ElfW(Shdr)), g_sections,
                   count * sizeof(ElfW(Shdr)))) {
      return false;
    }
    for (size_t i = 0; i < count; ++i) {
      const ElfW(Shdr)& section = g_sections[i];
      if (section.sh_type != SHT_PROGBITS || (section.sh_flags & SHF_COMPRESSED) != 0) continue;
      if (named(section, kDebugFrame, sizeof kDebugFrame)) found->debug_frame = section;
      if (named(section, kGoBuildInfo, sizeof kGoBuildInfo)) found->go_build_info = section;
    }
  }
  return true;
}

bool ReadsKnownGo(const File& file, const ElfW(Shdr) & section) {
  uint8_t data[64];
  const size_t size = section.sh_size < sizeof data ? section.sh_size : sizeof data;
  return size != 0 && file.Read(section.sh_offset, data, size) && IsKnownGo(data, size);
}

#if defined(__x86_64__)

// What is kept of one file.
struct Kept {
  dev_t device;
  ino_t inode;
  off_t size;
  struct timespec changed;
  DebugFrame debug_frame;
};
constinit Kept g_kept[kMaxDebugFrames];
int g_kept_count = 0;
size_t g_kept_bytes = 0;

const DebugFrame* FindKept(const struct stat& status) {
  for (int i = 0; i < g_kept_count; ++i) {
    const Kept& kept = g_kept[i];
    if (kept.device == status.st_dev && kept.inode == status.st_ino &&
        kept.size == status.st_size && kept.changed.tv_sec == status.st_ctim.tv_sec &&
        kept.changed.tv_nsec == status.st_ctim.tv_nsec) {
      return &kept.debug_frame;
    }
  }
  return nullptr;
}

// The segment of g_headers that holds `address`, as far as it comes from the file; null when there
// is none.
const ElfW(Phdr) * SegmentOf(size_t count, uintptr_t address) {
  for (size_t i = 0; i < count; ++i) {
    const ElfW(Phdr)& header = g_headers[i];
    if (header.p_type == PT_LOAD && address >= header.p_vaddr &&
        address - header.p_vaddr < header.p_filesz) {
      return &header;
    }
  }
  return nullptr;
}

size_t WholePages(size_t bytes) { return (bytes + kPageBytes - 1) & ~(kPageBytes - 1); }

// Makes the search table of `debug_frame`; what .eh_frame describes is left out. That is read from
// the file, too: the module may be unloaded at any time.
size_t Index(const File& file, size_t count, const DebugFrame& debug_frame, uintptr_t code_end,
             DebugFrame::Entry* entries) {
  CfiSection loaded;
  const ElfW(Phdr)* header = nullptr;
  for (size_t i = 0; i < count; ++i) {
    if (g_headers[i].p_type == PT_GNU_EH_FRAME) header = &g_headers[i];
  }
  const ElfW(Phdr)* const segment = header == nullptr ? nullptr : SegmentOf(count, header->p_vaddr);
  if (segment == nullptr) return IndexDebugFrame(debug_frame, code_end, loaded, 0, entries);
  // .eh_frame lies in the same segment: linkers put them side by side.
  const Memory copy(segment->p_filesz);
  if (copy.data() == nullptr || !file.Read(segment->p_offset, copy.data(), segment->p_filesz)) {
    return 0;
  }
  const size_t offset = header->p_vaddr - segment->p_vaddr;
  const size_t room = segment->p_filesz - offset;
  loaded.header = copy.data() + offset;
  loaded.header_end = loaded.header + (header->p_filesz < room ? header->p_filesz : room);
  loaded.begin = copy.data();
  loaded.end = copy.data() + segment->p_filesz;
  return IndexDebugFrame(debug_frame, code_end, loaded,
                         reinterpret_cast<uintptr_t>(copy.data()) - segment->p_vaddr, entries);
}

const DebugFrame* ReadDebugFrame(const File& file, size_t count, const ElfW(Shdr) & section) {
  if (section.sh_size == 0 || section.sh_size > kMaxDebugFrameBytes) return nullptr;
  if (const DebugFrame* known = FindKept(file.status())) {
    return known->count > 0 ? known : nullptr;
  }
  DebugFrame result;
  uintptr_t code_end = 0;
  result.base = ~uintptr_t{0};
  for (size_t i = 0; i < count; ++i) {
    const ElfW(Phdr)& header = g_headers[i];
    if (header.p_type != PT_LOAD || (header.p_flags & PF_X) == 0) continue;
    if (header.p_vaddr < result.base) result.base = header.p_vaddr;
    if (header.p_vaddr + header.p_memsz > code_end) code_end = header.p_vaddr + header.p_memsz;
  }
  const size_t section_bytes = (section.sh_size + 7) & ~size_t{7};
  const size_t all_bytes =
      WholePages(section_bytes + MaxDebugFrameEntries(section.sh_size) * sizeof(DebugFrame::Entry));
  if (g_kept_count == kMaxDebugFrames || all_bytes > kMaxDebugFramesBytes - g_kept_bytes) {
    return nullptr;
  }
  Memory memory(all_bytes);
  if (memory.data() == nullptr || !file.Read(section.sh_offset, memory.data(), section.sh_size)) {
    return nullptr;
  }
  auto* const entries = reinterpret_cast<DebugFrame::Entry*>(memory.data() + section_bytes);
  result.begin = memory.data();
  result.end = memory.data() + section.sh_size;
  result.entries = entries;
  result.count = Index(file, count, result, code_end, entries);

  // That nothing needs to be kept is kept, too.
  const struct stat& status = file.status();
  Kept* const kept = &g_kept[g_kept_count];
  *kept = {status.st_dev, status.st_ino, status.st_size, status.st_ctim, result};
  ++g_kept_count;
  if (result.count == 0) return nullptr;
  uint8_t* const data = memory.Release();
  const size_t used = WholePages(section_bytes + result.count * sizeof(DebugFrame::Entry));
  if (used < all_bytes) sys::Munmap(data + used, all_bytes - used);
  sys::Mprotect(data, used, PROT_READ);
  sys::NameMapping(data, used, "ollamatrace debug_frame");
  g_kept_bytes += used;
  return &kept->debug_frame;
}

#else  // frames are found by frame pointers

const DebugFrame* ReadDebugFrame(const File&, size_t, const ElfW(Shdr) &) { return nullptr; }

#endif

}  // namespace

uint64_t HashProgramHeaders(const ElfW(Phdr) * headers, size_t count) {
  // FNV-1a.
  uint64_t hash = UINT64_C(0xcbf29ce484222325);
  const auto* const bytes = reinterpret_cast<const uint8_t*>(headers);
  for (size_t i = 0; i < count * sizeof *headers; ++i) {
    hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
  }
  return hash;
}

const uint8_t* FindBuildId(const uint8_t* data, size_t size, size_t align, size_t* id_size) {
  if (align > 8) return nullptr;
  const uint8_t* const end = data + size;
  const size_t unit = align == 8 ? 8 : 4;
  while (static_cast<size_t>(end - data) >= sizeof(ElfW(Nhdr))) {
    ElfW(Nhdr) head;
    std::memcpy(&head, data, sizeof head);
    const size_t name_size = (size_t{head.n_namesz} + unit - 1) & ~(unit - 1);
    const size_t data_size = (size_t{head.n_descsz} + unit - 1) & ~(unit - 1);
    const auto room = static_cast<size_t>(end - data) - sizeof head;
    if (name_size > room || data_size > room - name_size) break;
    const uint8_t* const name = data + sizeof head;
    if (head.n_type == NT_GNU_BUILD_ID && head.n_namesz == 4 && std::memcmp(name, "GNU", 4) == 0 &&
        head.n_descsz > 0 && head.n_descsz <= ModuleIdentity::kMaxBuildId) {
      *id_size = head.n_descsz;
      return name + name_size;
    }
    data = name + name_size + data_size;
  }
  return nullptr;
}

bool IsKnownGo(const uint8_t* data, size_t size) {
  // cmd/link's buildinfo: 14 bytes of magic, the size of a pointer, flags; since Go 1.18 (flag 2)
  // the version follows 32 bytes from the beginning, after its length.
  static constexpr char kMagic[] = "\xff Go buildinf:";
  constexpr size_t kMagicBytes = sizeof kMagic - 1;
  constexpr size_t kFlagsAt = 15;
  constexpr uint8_t kInline = 2;
  constexpr size_t kLengthAt = 32;
  static constexpr char kPrefix[] = "go1.";
  constexpr size_t kPrefixBytes = sizeof kPrefix - 1;
  if (size <= kLengthAt || std::memcmp(data, kMagic, kMagicBytes) != 0 ||
      (data[kFlagsAt] & kInline) == 0 || data[kLengthAt] >= 0x80) {
    return false;
  }
  const uint8_t* at = data + kLengthAt + 1;
  const size_t room = size - kLengthAt - 1;
  const uint8_t* const end = at + (data[kLengthAt] < room ? data[kLengthAt] : room);
  if (static_cast<size_t>(end - at) <= kPrefixBytes ||
      std::memcmp(at, kPrefix, kPrefixBytes) != 0) {
    return false;  // "devel ..." may be anything
  }
  at += kPrefixBytes;
  unsigned minor = 0;
  const uint8_t* const first = at;
  for (; at < end && at - first < 4 && *at >= '0' && *at <= '9'; ++at) {
    minor = minor * 10 + static_cast<unsigned>(*at - '0');
  }
  return at != first && minor >= kOldestGo && minor <= kNewestGo;
}

ModuleFile ReadModuleFile(const char* path, const ModuleIdentity& identity) {
  ModuleFile result;
  const File file(path);
  ElfW(Ehdr) header;
  Sections sections;
  if (!file.ok() || !file.Read(0, &header, sizeof header) ||
      std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0 || header.e_ident[EI_CLASS] != ELFCLASS64 ||
      !FindSections(file, header, &sections) ||
      (sections.debug_frame.sh_size == 0 && sections.go_build_info.sh_size == 0) ||
      !ReadProgramHeaders(file, header) || !IsSame(file, header.e_phnum, identity)) {
    return result;
  }
  result.known_go = ReadsKnownGo(file, sections.go_build_info);
  result.debug_frame = ReadDebugFrame(file, header.e_phnum, sections.debug_frame);
  return result;
}

}  // namespace ollamatrace::capture
