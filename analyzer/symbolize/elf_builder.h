// Makes small ELF files in memory, for tests.
#ifndef OLLAMATRACE_ANALYZER_SYMBOLIZE_ELF_BUILDER_H_
#define OLLAMATRACE_ANALYZER_SYMBOLIZE_ELF_BUILDER_H_

#include <elf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace ollamatrace {

// Sections are laid out in the order of their addition, from index 1 on; the table of their names
// is added last.
class ElfBuilder {
 public:
  struct Section {
    std::string name;
    uint32_t type = SHT_PROGBITS;
    uint64_t flags = 0;
    uint64_t address = 0;
    std::string contents;
    uint32_t link = 0;
  };

  // Gives the section's index.
  uint32_t Add(Section section) {
    sections_.push_back(std::move(section));
    return static_cast<uint32_t>(sections_.size());
  }

  // A symbol table of that type with its strings; all symbols in section `section`.
  struct Symbol {
    std::string name;
    uint64_t address = 0;
    uint64_t size = 0;
    uint8_t type = STT_FUNC;
    uint8_t binding = STB_GLOBAL;
  };
  void AddSymbols(uint32_t type, const std::vector<Symbol>& symbols, uint32_t section) {
    std::string strings(1, '\0');
    std::string table(sizeof(Elf64_Sym), '\0');
    for (const Symbol& symbol : symbols) {
      Elf64_Sym raw = {};
      raw.st_name = static_cast<uint32_t>(strings.size());
      raw.st_info = ELF64_ST_INFO(symbol.binding, symbol.type);
      raw.st_shndx = static_cast<uint16_t>(section);
      raw.st_value = symbol.address;
      raw.st_size = symbol.size;
      Append(&table, raw);
      strings += symbol.name + '\0';
    }
    const uint32_t link = Add({.name = ".strings", .type = SHT_STRTAB, .contents = strings});
    Add({.name = ".symbols", .type = type, .contents = table, .link = link});
  }

  void AddBuildId(std::string_view id) {
    std::string note;
    Append(&note, Elf64_Nhdr{4, static_cast<Elf64_Word>(id.size()), NT_GNU_BUILD_ID});
    note += std::string("GNU\0", 4) + std::string(id);
    note.resize((note.size() + 3) & ~size_t{3});
    Add({.name = ".note.gnu.build-id", .type = SHT_NOTE, .contents = note});
  }

  std::vector<uint8_t> Build() const {
    std::vector<Section> all = sections_;
    all.push_back({.name = ".shstrtab", .type = SHT_STRTAB});
    std::string names(1, '\0');
    std::vector<uint32_t> name_offsets;
    for (const Section& section : all) {
      name_offsets.push_back(static_cast<uint32_t>(names.size()));
      names += section.name + '\0';
    }
    all.back().contents = names;

    std::string file(sizeof(Elf64_Ehdr), '\0');
    std::string headers(sizeof(Elf64_Shdr), '\0');
    for (size_t i = 0; i < all.size(); ++i) {
      file.resize((file.size() + 15) & ~size_t{15});
      Elf64_Shdr header = {};
      header.sh_name = name_offsets[i];
      header.sh_type = all[i].type;
      header.sh_flags = all[i].flags;
      header.sh_addr = all[i].address;
      header.sh_offset = file.size();
      header.sh_size = all[i].contents.size();
      header.sh_link = all[i].link;
      Append(&headers, header);
      file += all[i].contents;
    }
    file.resize((file.size() + 15) & ~size_t{15});

    Elf64_Ehdr header = {};
    std::memcpy(header.e_ident, ELFMAG, SELFMAG);
    header.e_ident[EI_CLASS] = ELFCLASS64;
    header.e_ident[EI_DATA] = ELFDATA2LSB;
    header.e_ident[EI_VERSION] = EV_CURRENT;
    header.e_type = ET_DYN;
    header.e_machine = EM_X86_64;
    header.e_version = EV_CURRENT;
    header.e_shoff = file.size();
    header.e_ehsize = sizeof(header);
    header.e_shentsize = sizeof(Elf64_Shdr);
    header.e_shnum = static_cast<uint16_t>(all.size() + 1);
    header.e_shstrndx = static_cast<uint16_t>(all.size());
    std::memcpy(file.data(), &header, sizeof(header));
    file += headers;
    return {file.begin(), file.end()};
  }

  template <typename T>
  static void Append(std::string* bytes, const T& value) {
    bytes->append(reinterpret_cast<const char*>(&value), sizeof(value));
  }

 private:
  std::vector<Section> sections_;
};

}  // namespace ollamatrace

#endif  // OLLAMATRACE_ANALYZER_SYMBOLIZE_ELF_BUILDER_H_
