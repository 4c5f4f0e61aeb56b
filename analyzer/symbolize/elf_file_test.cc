#include "analyzer/symbolize/elf_file.h"

#include <string>
#include <vector>

#include "analyzer/symbolize/elf_builder.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

TEST(ElfFileTest, SectionsAndBuildId) {
  ElfBuilder builder;
  builder.Add(
      {.name = ".text", .flags = SHF_ALLOC | SHF_EXECINSTR, .address = 0x1000, .contents = "code"});
  builder.AddBuildId("0123456789");
  const auto bytes = builder.Build();
  const auto elf = ElfFile::Parse(bytes);
  ASSERT_TRUE(elf.ok()) << elf.status();
  EXPECT_EQ(elf->machine(), EM_X86_64);
  EXPECT_EQ(elf->build_id(), "0123456789");
  const ElfSection* text = elf->FindSection(".text");
  ASSERT_NE(text, nullptr);
  EXPECT_EQ(text->address, 0x1000u);
  const ByteSpan contents = elf->Contents(*text);
  EXPECT_EQ(std::string(contents.begin(), contents.end()), "code");
  EXPECT_EQ(elf->FindSection(".data"), nullptr);
}

TEST(ElfFileTest, RefusesWhatItCannotRead) {
  ElfBuilder builder;
  builder.Add({.name = ".text", .contents = "code"});
  const auto whole = builder.Build();
  const auto with = [&](size_t at, uint8_t value) {
    auto bytes = whole;
    bytes[at] = value;
    return ElfFile::Parse(bytes).status();
  };
  EXPECT_EQ(ElfFile::Parse({}).status().message(), "too short for an ELF file");
  EXPECT_EQ(with(0, 'x').message(), "not an ELF file");
  EXPECT_EQ(with(EI_CLASS, ELFCLASS32).message(), "not a 64-bit little-endian ELF file");
  EXPECT_EQ(with(EI_DATA, ELFDATA2MSB).message(), "not a 64-bit little-endian ELF file");
  // e_shoff and e_shnum.
  EXPECT_EQ(with(0x2f, 0x7f).message(), "the section headers lie outside the file");
  EXPECT_EQ(with(0x3d, 0x7f).message(), "the section headers lie outside the file");
}

TEST(ElfFileTest, EveryPrefixIsReadOrRefused) {
  ElfBuilder builder;
  builder.Add({.name = ".text", .contents = std::string(100, 'x')});
  builder.AddBuildId("0123456789");
  builder.AddSymbols(SHT_SYMTAB, {{"main", 0x1000, 16}}, 1);
  const auto whole = builder.Build();
  for (size_t size = 0; size < whole.size(); ++size) {
    // A buffer of its own: a sanitizer sees what is read beyond it.
    const std::vector<uint8_t> bytes(whole.begin(), whole.begin() + static_cast<ptrdiff_t>(size));
    EXPECT_FALSE(ElfFile::Parse(bytes).ok()) << size;
  }
}

TEST(ElfFileTest, ContentsThatLieOutsideAreAbsent) {
  ElfBuilder builder;
  builder.Add({.name = ".text", .contents = "code"});
  const auto bytes = builder.Build();
  const auto elf = ElfFile::Parse(bytes);
  ASSERT_TRUE(elf.ok());
  ElfSection section = *elf->FindSection(".text");
  for (const uint64_t size : {uint64_t{bytes.size()}, ~uint64_t{0}, ~section.offset + 1}) {
    section.size = size;
    EXPECT_TRUE(elf->Contents(section).empty()) << size;
  }
  section.size = 4;
  section.offset = ~uint64_t{0} - 1;
  EXPECT_TRUE(elf->Contents(section).empty());
}

TEST(ElfFileTest, BuildIdOfUnlikelyLengthIsNone) {
  ElfBuilder builder;
  builder.AddBuildId(std::string(100000, 'x'));
  const auto bytes = builder.Build();
  const auto elf = ElfFile::Parse(bytes);
  ASSERT_TRUE(elf.ok());
  EXPECT_TRUE(elf->build_id().empty());
}

TEST(ElfFileTest, DebugLink) {
  const auto link_of = [](const std::string& contents) {
    ElfBuilder builder;
    builder.Add({.name = ".gnu_debuglink", .contents = contents});
    const auto bytes = builder.Build();
    const auto elf = ElfFile::Parse(bytes);
    std::string text = "none";
    if (const auto link = elf->debug_link()) {
      text = std::string(link->file_name) + " " + std::to_string(link->crc32);
    }
    return text;
  };
  EXPECT_EQ(link_of(std::string("a.debug\0\x01\x02\0\0", 12)), "a.debug 513");
  EXPECT_EQ(link_of(std::string("ab.dbg\0\0\x01\0\0\0", 12)), "ab.dbg 1");
  EXPECT_EQ(link_of(std::string("../a.dbg\0\0\0\0\x01\0\0\0", 16)), "none");
  EXPECT_EQ(link_of(std::string("a.debug\0\x01\x02\0", 11)), "none");
  EXPECT_EQ(link_of("a.debug"), "none");
  EXPECT_EQ(link_of(""), "none");
}

TEST(ElfFileTest, RelativeRelocations) {
  std::string table;
  for (const auto& [address, type, addend] : {std::tuple{0x3000, R_X86_64_RELATIVE, 0x1111},
                                              std::tuple{0x2000, R_X86_64_RELATIVE, 0x2222},
                                              std::tuple{0x1000, R_X86_64_GLOB_DAT, 0x3333}}) {
    ElfBuilder::Append(&table, Elf64_Rela{static_cast<Elf64_Addr>(address),
                                          ELF64_R_INFO(0, static_cast<Elf64_Xword>(type)), addend});
  }
  ElfBuilder builder;
  builder.Add({.name = ".rela.dyn", .type = SHT_RELA, .flags = SHF_ALLOC, .contents = table});
  const auto bytes = builder.Build();
  const auto elf = ElfFile::Parse(bytes);
  using Pairs = std::vector<std::pair<uint64_t, uint64_t>>;
  EXPECT_EQ(elf->RelativeRelocations(), (Pairs{{0x2000, 0x2222}, {0x3000, 0x1111}}));
}

TEST(CStringAtTest, EndsWithinTheBytes) {
  const std::vector<uint8_t> bytes = {'a', 'b', 0, 'c'};
  EXPECT_EQ(CStringAt(bytes, 0), "ab");
  EXPECT_EQ(CStringAt(bytes, 1), "b");
  EXPECT_EQ(CStringAt(bytes, 2), "");
  EXPECT_EQ(CStringAt(bytes, 3), "");  // No NUL follows.
  EXPECT_EQ(CStringAt(bytes, 4), "");
  EXPECT_EQ(CStringAt(bytes, ~uint64_t{0}), "");
  EXPECT_EQ(CStringAt(bytes, 0, /*limit=*/2), "");
}

}  // namespace
}  // namespace ollamatrace
