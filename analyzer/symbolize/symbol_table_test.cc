#include "analyzer/symbolize/symbol_table.h"

#include <cstdint>
#include <string>
#include <vector>

#include "analyzer/symbolize/elf_builder.h"
#include "gtest/gtest.h"

namespace ollamatrace {
namespace {

// A file with code from 0x1000 to 0x1000 + `code_bytes` and these symbols.
std::vector<uint8_t> FileWith(const std::vector<ElfBuilder::Symbol>& symbols,
                              size_t code_bytes = 0x1000, uint32_t type = SHT_SYMTAB) {
  ElfBuilder builder;
  const uint32_t text = builder.Add({.name = ".text",
                                     .flags = SHF_ALLOC | SHF_EXECINSTR,
                                     .address = 0x1000,
                                     .contents = std::string(code_bytes, '\x90')});
  builder.AddSymbols(type, symbols, text);
  return builder.Build();
}

TEST(SymbolTableTest, SizesAndNeighboursBoundAFunction) {
  const auto bytes = FileWith({{"sized", 0x1000, 0x10},
                               {"unsized", 0x1020, 0, STT_NOTYPE, STB_LOCAL},
                               {"last", 0x1100, 0}});
  const SymbolTable table(*ElfFile::Parse(bytes), SHT_SYMTAB);
  EXPECT_EQ(table.Find(0xfff), "");
  EXPECT_EQ(table.Find(0x1000), "sized");
  EXPECT_EQ(table.Find(0x100f), "sized");
  EXPECT_EQ(table.Find(0x1010), "");  // Between them: no guess.
  EXPECT_EQ(table.Find(0x1020), "unsized");
  EXPECT_EQ(table.Find(0x10ff), "unsized");
  EXPECT_EQ(table.Find(0x1100), "last");
  EXPECT_EQ(table.Find(0x1fff), "last");
  EXPECT_EQ(table.Find(0x2000), "");  // The end of the section.
}

TEST(SymbolTableTest, GlobalNamesWinOverWeakAndLocalOnes) {
  const auto bytes = FileWith({{"local", 0x1000, 0x10, STT_FUNC, STB_LOCAL},
                               {"weak", 0x1000, 0x10, STT_FUNC, STB_WEAK},
                               {"global", 0x1000, 0x10, STT_FUNC, STB_GLOBAL},
                               {"label", 0x1000, 0, STT_NOTYPE, STB_GLOBAL}});
  EXPECT_EQ(SymbolTable(*ElfFile::Parse(bytes), SHT_SYMTAB).Find(0x1008), "global");
}

TEST(SymbolTableTest, InnerFunctionsAndLabels) {
  const auto bytes = FileWith(
      {{"outer", 0x1000, 0x100}, {"inner", 0x1040, 0x10}, {"label", 0x1080, 0, STT_NOTYPE}});
  const SymbolTable table(*ElfFile::Parse(bytes), SHT_SYMTAB);
  EXPECT_EQ(table.Find(0x1048), "inner");
  EXPECT_EQ(table.Find(0x1060), "outer");
  EXPECT_EQ(table.Find(0x1088), "outer");  // A label in a function is no function.
}

TEST(SymbolTableTest, OnlyFunctionsOfTheAskedTable) {
  const auto bytes = FileWith({{"data", 0x1000, 0x10, STT_OBJECT},
                               {"$x", 0x1010, 0, STT_NOTYPE, STB_LOCAL},
                               {"", 0x1020, 0x10},
                               {"elsewhere", 0x9000, 0x10}},
                              0x1000, SHT_DYNSYM);
  EXPECT_TRUE(SymbolTable(*ElfFile::Parse(bytes), SHT_DYNSYM).empty());
  EXPECT_EQ(SymbolTable::AddressOf(*ElfFile::Parse(bytes), SHT_DYNSYM, "data"), 0x1000u);
  EXPECT_EQ(SymbolTable::AddressOf(*ElfFile::Parse(bytes), SHT_DYNSYM, "dat"), 0u);
  EXPECT_EQ(SymbolTable::AddressOf(*ElfFile::Parse(bytes), SHT_SYMTAB, "data"), 0u);
}

TEST(SymbolTableTest, SizeThatReachesBeyondTheSectionIsCut) {
  const auto bytes = FileWith({{"huge", 0x1010, ~uint64_t{0}}});
  const SymbolTable table(*ElfFile::Parse(bytes), SHT_SYMTAB);
  EXPECT_EQ(table.Find(0x1fff), "huge");
  EXPECT_EQ(table.Find(0x2000), "");
  EXPECT_EQ(table.Find(0x1000), "");
}

// A lookup that walked the table would need 10^11 steps here and run into the test's time limit.
TEST(SymbolTableTest, HundredsOfThousandsOfFunctions) {
  constexpr uint64_t kFunctions = 300000;
  std::vector<ElfBuilder::Symbol> symbols;
  for (uint64_t i = 0; i < kFunctions; ++i) {
    // Not in the order of their addresses.
    const uint64_t place = i * 7919 % kFunctions;
    symbols.push_back({"f" + std::to_string(place), 0x1000 + place * 16, 12});
  }
  const auto bytes = FileWith(symbols, kFunctions * 16);
  const SymbolTable table(*ElfFile::Parse(bytes), SHT_SYMTAB);
  ASSERT_EQ(table.size(), kFunctions);
  for (uint64_t i = 0; i < kFunctions; ++i) {
    ASSERT_EQ(table.Find(0x1000 + i * 16 + 5), "f" + std::to_string(i));
    ASSERT_EQ(table.Find(0x1000 + i * 16 + 13), "");
  }
}

}  // namespace
}  // namespace ollamatrace
