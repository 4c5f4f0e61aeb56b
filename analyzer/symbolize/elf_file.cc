#include "analyzer/symbolize/elf_file.h"

#include <algorithm>
#include <cstring>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"

namespace ollamatrace {
namespace {

// The n-th T of an array in `bytes`; the caller has checked the range.
template <typename T>
T ReadAt(ByteSpan bytes, size_t offset) {
  T value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value;
}

// Files have some dozens of sections, and some hundred thousand with -ffunction-sections; beyond
// this it is no linked module.
constexpr uint64_t kMaxSections = 1 << 20;

// Sections or segments searched for the build-id; linked modules have fewer than ten. A bound,
// because they may overlap.
constexpr int kMaxNotes = 64;

// The linkers' are of 8 to 20 bytes; --build-id=0x... takes any number.
constexpr size_t kMaxBuildIdBytes = 256;

// Linked modules have two (.rela.dyn, .rela.plt). A bound, because they may overlap.
constexpr int kMaxRelocationTables = 4;

uint64_t AlignUp4(uint64_t n) { return (n + 3) & ~uint64_t{3}; }

// The description of the first note of that name and type.
std::string_view FindNote(ByteSpan notes, std::string_view name, uint32_t type) {
  while (notes.size() >= sizeof(Elf64_Nhdr)) {
    const auto header = ReadAt<Elf64_Nhdr>(notes, 0);
    const uint64_t name_offset = sizeof(header);
    const uint64_t description_offset = name_offset + AlignUp4(header.n_namesz);
    const auto note_name = Slice(notes, name_offset, header.n_namesz);
    const auto description = Slice(notes, description_offset, header.n_descsz);
    if (!note_name || !description) return {};
    // The name's length counts its NUL.
    if (header.n_type == type && header.n_descsz <= kMaxBuildIdBytes &&
        note_name->size() == name.size() + 1 &&
        std::memcmp(note_name->data(), name.data(), name.size()) == 0) {
      return {reinterpret_cast<const char*>(description->data()), description->size()};
    }
    const uint64_t next = description_offset + AlignUp4(header.n_descsz);
    if (next >= notes.size()) return {};
    notes.remove_prefix(next);
  }
  return {};
}

}  // namespace

std::optional<ByteSpan> Slice(ByteSpan bytes, uint64_t offset, uint64_t size) {
  if (offset > bytes.size() || size > bytes.size() - offset) return std::nullopt;
  return bytes.subspan(offset, size);
}

std::string_view CStringAt(ByteSpan bytes, uint64_t offset, size_t limit) {
  if (offset >= bytes.size()) return {};
  const char* start = reinterpret_cast<const char*>(bytes.data() + offset);
  const size_t available = std::min<size_t>(limit, bytes.size() - offset);
  const void* end = std::memchr(start, 0, available);
  if (end == nullptr) return {};
  return {start, static_cast<size_t>(static_cast<const char*>(end) - start)};
}

absl::StatusOr<ElfFile> ElfFile::Parse(ByteSpan bytes) {
  if (bytes.size() < sizeof(Elf64_Ehdr)) {
    return absl::InvalidArgumentError("too short for an ELF file");
  }
  const auto header = ReadAt<Elf64_Ehdr>(bytes, 0);
  if (std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0) {
    return absl::InvalidArgumentError("not an ELF file");
  }
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB) {
    return absl::InvalidArgumentError("not a 64-bit little-endian ELF file");
  }
  ElfFile file;
  file.bytes_ = bytes;
  file.machine_ = header.e_machine;

  if (header.e_phnum != 0 && header.e_phentsize == sizeof(Elf64_Phdr)) {
    const auto table = Slice(bytes, header.e_phoff, uint64_t{header.e_phnum} * sizeof(Elf64_Phdr));
    if (!table) return absl::InvalidArgumentError("the program headers lie outside the file");
    for (size_t i = 0; i < header.e_phnum; ++i) {
      file.segments_.push_back(ReadAt<Elf64_Phdr>(*table, i * sizeof(Elf64_Phdr)));
    }
  }

  if (header.e_shoff != 0 && header.e_shentsize == sizeof(Elf64_Shdr)) {
    uint64_t count = header.e_shnum;
    uint64_t names_index = header.e_shstrndx;
    const auto first = Slice(bytes, header.e_shoff, sizeof(Elf64_Shdr));
    if (!first) return absl::InvalidArgumentError("the section headers lie outside the file");
    // More than SHN_LORESERVE sections: the true numbers stand in the first header.
    const auto zeroth = ReadAt<Elf64_Shdr>(*first, 0);
    if (count == 0) count = zeroth.sh_size;
    if (names_index == SHN_XINDEX) names_index = zeroth.sh_link;
    if (count > kMaxSections) return absl::InvalidArgumentError("too many sections");
    const auto table = Slice(bytes, header.e_shoff, count * sizeof(Elf64_Shdr));
    if (!table) return absl::InvalidArgumentError("the section headers lie outside the file");
    ByteSpan names;
    if (names_index < count) {
      const auto section = ReadAt<Elf64_Shdr>(*table, names_index * sizeof(Elf64_Shdr));
      if (section.sh_type == SHT_STRTAB) {
        names = Slice(bytes, section.sh_offset, section.sh_size).value_or(ByteSpan());
      }
    }
    file.sections_.reserve(count);
    for (size_t i = 0; i < count; ++i) {
      const auto raw = ReadAt<Elf64_Shdr>(*table, i * sizeof(Elf64_Shdr));
      file.sections_.push_back({.name = CStringAt(names, raw.sh_name, /*limit=*/256),
                                .type = raw.sh_type,
                                .flags = raw.sh_flags,
                                .address = raw.sh_addr,
                                .offset = raw.sh_offset,
                                .size = raw.sh_size,
                                .link = raw.sh_link,
                                .entry_size = raw.sh_entsize});
    }
  }

  // Sections first: in a debug file the program headers describe another file's offsets.
  int notes_seen = 0;
  for (const ElfSection& section : file.sections_) {
    if (section.type != SHT_NOTE || ++notes_seen > kMaxNotes) continue;
    file.build_id_ = FindNote(file.Contents(section), "GNU", NT_GNU_BUILD_ID);
    if (!file.build_id_.empty()) return file;
  }
  for (const Elf64_Phdr& segment : file.segments_) {
    if (segment.p_type != PT_NOTE || ++notes_seen > kMaxNotes) continue;
    const auto notes = Slice(bytes, segment.p_offset, segment.p_filesz);
    if (notes) file.build_id_ = FindNote(*notes, "GNU", NT_GNU_BUILD_ID);
    if (!file.build_id_.empty()) break;
  }
  return file;
}

const ElfSection* ElfFile::FindSection(std::string_view name) const {
  for (const ElfSection& section : sections_) {
    if (section.name == name) return &section;
  }
  return nullptr;
}

ByteSpan ElfFile::Contents(const ElfSection& section) const {
  if (section.type == SHT_NOBITS || (section.flags & SHF_COMPRESSED) != 0) return {};
  return Slice(bytes_, section.offset, section.size).value_or(ByteSpan());
}

ByteSpan ElfFile::LoadedAt(uint64_t address) const {
  for (const Elf64_Phdr& segment : segments_) {
    if (segment.p_type != PT_LOAD || address < segment.p_vaddr) continue;
    const uint64_t skip = address - segment.p_vaddr;
    if (skip >= segment.p_filesz) continue;
    const auto loaded = Slice(bytes_, segment.p_offset, segment.p_filesz);
    if (loaded) return loaded->subspan(skip);
  }
  return {};
}

std::optional<ElfDebugLink> ElfFile::debug_link() const {
  const ElfSection* section = FindSection(".gnu_debuglink");
  if (section == nullptr) return std::nullopt;
  const ByteSpan contents = Contents(*section);
  const std::string_view name = CStringAt(contents, 0, /*limit=*/4096);
  // A base name: what leads elsewhere was not written by strip.
  if (name.empty() || name.find('/') != std::string_view::npos) return std::nullopt;
  const auto crc = Slice(contents, AlignUp4(name.size() + 1), sizeof(uint32_t));
  if (!crc) return std::nullopt;
  return ElfDebugLink{name, ReadAt<uint32_t>(*crc, 0)};
}

std::vector<std::pair<uint64_t, uint64_t>> ElfFile::RelativeRelocations() const {
  const uint32_t relative = machine_ == EM_AARCH64 ? R_AARCH64_RELATIVE : R_X86_64_RELATIVE;
  std::vector<std::pair<uint64_t, uint64_t>> result;
  int tables = 0;
  for (const ElfSection& section : sections_) {
    if (section.type != SHT_RELA || (section.flags & SHF_ALLOC) == 0) continue;
    if (++tables > kMaxRelocationTables) break;
    const ByteSpan contents = Contents(section);
    for (size_t at = 0; at + sizeof(Elf64_Rela) <= contents.size(); at += sizeof(Elf64_Rela)) {
      const auto entry = ReadAt<Elf64_Rela>(contents, at);
      if (ELF64_R_TYPE(entry.r_info) == relative) {
        result.emplace_back(entry.r_offset, static_cast<uint64_t>(entry.r_addend));
      }
    }
  }
  std::sort(result.begin(), result.end());
  return result;
}

}  // namespace ollamatrace
