// A bounded reader of ELF files: what symbolization needs, from bytes nobody vouches for.
//
// 64-bit little-endian files only (x86-64 and aarch64, the machines that are traced). Every offset,
// count and length is checked against the bytes that are there before it is used; whatever does not
// fit is treated as absent. Source of the layouts: elf(5) and the System V ABI, chapters 4 and 5.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_ELF_FILE_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_ELF_FILE_H_

#include <elf.h>

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/types/span.h"

namespace ollamatrace {

using ByteSpan = absl::Span<const uint8_t>;

// `size` bytes at `offset`, or nothing when they do not all lie within `bytes`.
std::optional<ByteSpan> Slice(ByteSpan bytes, uint64_t offset, uint64_t size);

// The NUL-terminated text at `offset`, at most `limit` characters of it; empty when the offset lies
// outside or no NUL follows.
std::string_view CStringAt(ByteSpan bytes, uint64_t offset, size_t limit = 64 << 10);

struct ElfSection {
  std::string_view name;
  uint32_t type = 0;
  uint64_t flags = 0;
  uint64_t address = 0;
  uint64_t offset = 0;
  uint64_t size = 0;
  uint32_t link = 0;
  uint64_t entry_size = 0;
};

struct ElfDebugLink {
  std::string_view file_name;  // A base name.
  uint32_t crc32 = 0;          // Of the whole debug file.
};

// Refers to the bytes it was made from; they must outlive it. Immutable, therefore safe to share.
class ElfFile {
 public:
  static absl::StatusOr<ElfFile> Parse(ByteSpan bytes);

  uint16_t machine() const { return machine_; }
  const std::vector<ElfSection>& sections() const { return sections_; }
  const std::vector<Elf64_Phdr>& segments() const { return segments_; }

  // The first section of that name; null when there is none.
  const ElfSection* FindSection(std::string_view name) const;

  // The section's bytes in the file: empty for SHT_NOBITS (as in debug files), for one that does
  // not lie within the file, and for a compressed one.
  ByteSpan Contents(const ElfSection& section) const;

  // The file's bytes that are loaded at virtual address `address`, up to the end of their segment;
  // empty when none are.
  ByteSpan LoadedAt(uint64_t address) const;

  // The raw NT_GNU_BUILD_ID; empty when there is none.
  const std::string& build_id() const { return build_id_; }

  // .gnu_debuglink, if the file names a separate debug file.
  std::optional<ElfDebugLink> debug_link() const;

  // (address, value) of each R_*_RELATIVE relocation, sorted by address: what the dynamic linker
  // writes there at load bias 0.
  std::vector<std::pair<uint64_t, uint64_t>> RelativeRelocations() const;

 private:
  ByteSpan bytes_;
  uint16_t machine_ = 0;
  std::vector<ElfSection> sections_;
  std::vector<Elf64_Phdr> segments_;
  std::string build_id_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_ELF_FILE_H_
